"""Train the narrow model to follow the wide one, without data."""
