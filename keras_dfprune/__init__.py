"""Prune trained Keras 3 models without data: the same models with narrower layers.

Importing this package loads neither TensorFlow nor Keras. A public name is loaded when it is first
used (PEP 562).

>>> import keras_dfprune as dfprune
>>> {"apply", "plan", "export"} <= set(dir(dfprune))
True
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_dfprune import rules as rules
    from keras_dfprune.api.apply import apply as apply
    from keras_dfprune.api.apply import plan as plan
    from keras_dfprune.api.callback import PostTrainPrune as PostTrainPrune
    from keras_dfprune.api.compare import Comparison as Comparison
    from keras_dfprune.api.compare import compare as compare
    from keras_dfprune.api.distill import distill as distill
    from keras_dfprune.api.functionalize import functionalize as functionalize
    from keras_dfprune.api.profile import Profile as Profile
    from keras_dfprune.api.profile import profile as profile
    from keras_dfprune.api.prune_and_train import prune_and_train as prune_and_train
    from keras_dfprune.api.pruning_plan import PruningPlan as PruningPlan
    from keras_dfprune.api.search import search as search
    from keras_dfprune.api.search_result import SearchResult as SearchResult
    from keras_dfprune.api.sweep import LayerSensitivity as LayerSensitivity
    from keras_dfprune.api.sweep import SensitivityResult as SensitivityResult
    from keras_dfprune.api.sweep import SweepResult as SweepResult
    from keras_dfprune.api.sweep import sensitivity as sensitivity
    from keras_dfprune.api.sweep import sweep as sweep
    from keras_dfprune.api.trials import Trial as Trial
    from keras_dfprune.exporting.export import export as export
    from keras_dfprune.exporting.result import ExportError as ExportError
    from keras_dfprune.exporting.result import ExportResult as ExportResult
    from keras_dfprune.methods.base import Context as Context
    from keras_dfprune.methods.base import Curve as Curve
    from keras_dfprune.methods.base import GroupView as GroupView
    from keras_dfprune.methods.base import Method as Method
    from keras_dfprune.methods.merge import CentroidMerge as CentroidMerge
    from keras_dfprune.methods.merge import LinearMerge as LinearMerge
    from keras_dfprune.methods.merge import SurvivorMerge as SurvivorMerge
    from keras_dfprune.methods.merge import UnitMerge as UnitMerge
    from keras_dfprune.methods.moments.moments import Moments as Moments
    from keras_dfprune.methods.saliency.saliency import Saliency as Saliency
    from keras_dfprune.planning.group_plan import GroupPlan as GroupPlan
    from keras_dfprune.rules.registry import register_rule as register_rule
    from keras_dfprune.rules.registry import unregister_rule as unregister_rule
    from keras_dfprune.verify.verify import VerificationError as VerificationError

__version__ = "0.1.0"

_MODULES = {
    "CentroidMerge": "methods.merge",
    "Comparison": "api.compare",
    "Context": "methods.base",
    "Curve": "methods.base",
    "ExportError": "exporting.result",
    "ExportResult": "exporting.result",
    "GroupPlan": "planning.group_plan",
    "GroupView": "methods.base",
    "LayerSensitivity": "api.sweep",
    "LinearMerge": "methods.merge",
    "Method": "methods.base",
    "Moments": "methods.moments.moments",
    "PostTrainPrune": "api.callback",
    "Profile": "api.profile",
    "PruningPlan": "api.pruning_plan",
    "Saliency": "methods.saliency.saliency",
    "SearchResult": "api.search_result",
    "SensitivityResult": "api.sweep",
    "SurvivorMerge": "methods.merge",
    "SweepResult": "api.sweep",
    "Trial": "api.trials",
    "UnitMerge": "methods.merge",
    "VerificationError": "verify.verify",
    "apply": "api.apply",
    "compare": "api.compare",
    "distill": "api.distill",
    "export": "exporting.export",
    "functionalize": "api.functionalize",
    "plan": "api.apply",
    "profile": "api.profile",
    "prune_and_train": "api.prune_and_train",
    "register_rule": "rules.registry",
    "search": "api.search",
    "sensitivity": "api.sweep",
    "sweep": "api.sweep",
    "unregister_rule": "rules.registry",
}

__all__ = sorted(_MODULES)  # noqa: PLE0605 - type checkers read the imports above


def __getattr__(name: str) -> Any:
    """Load a public name, or the folder of rules, when it is first used."""
    if name not in _MODULES and name != "rules":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from keras_dfprune.graph.backend import require_tensorflow

    require_tensorflow()
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, name)}")
    value = module if name == "rules" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "rules"})
