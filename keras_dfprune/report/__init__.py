"""Tables, plots, progress bars and warnings. Imports nothing else of this package."""
