"""Define the paper's method: merge each removed unit into its nearest remaining unit."""
