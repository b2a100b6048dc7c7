"""The public functions and classes: apply, plan, PruningPlan, PostTrainPrune, functionalize."""
