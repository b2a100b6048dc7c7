"""Choose which units to remove and which units replace them. Methods see arrays only."""
