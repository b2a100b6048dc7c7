"""Show tables, plots, progress bars and warnings. Import nothing else of this package."""
