"""Show a group's arrays to a method, and cut them as the method decides."""
