"""Build the narrow model from the cut arrays, and compile it as the original was compiled."""
