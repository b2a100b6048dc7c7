"""Find the groups of units that can be pruned in a model's graph, and say why others can't."""
