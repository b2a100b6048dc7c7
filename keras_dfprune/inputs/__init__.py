"""Provide inputs for a model: the user's rows, draws from a prior, small random samples."""
