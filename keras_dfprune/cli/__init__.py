"""The command `keras-dfprune`."""
