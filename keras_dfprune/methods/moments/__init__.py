"""Provide the moment method: the smallest expected cost first, least-squares surgery."""
