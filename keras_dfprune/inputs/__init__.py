"""Where a model's inputs come from: the user's rows, draws from a prior, small samples."""
