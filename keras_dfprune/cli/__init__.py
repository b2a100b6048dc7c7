"""Provide the command `keras-dfprune`."""
