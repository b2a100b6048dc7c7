"""Provide the public names: apply, plan, PruningPlan, PostTrainPrune and functionalize."""
