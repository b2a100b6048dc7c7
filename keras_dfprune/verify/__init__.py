"""Check that the narrow model computes what was planned."""
