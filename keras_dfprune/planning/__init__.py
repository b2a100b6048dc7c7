"""Turn the caller's arguments and the methods' curves into a plan, which is data."""
