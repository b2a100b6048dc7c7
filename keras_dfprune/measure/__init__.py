"""Measure models and files: what they cost, and how far their outputs are apart."""
