"""Measure the figures in the documentation; every script runs from the repository root."""
