"""The moment method: remove the unit with the smallest expected cost, rebuild by least squares."""
