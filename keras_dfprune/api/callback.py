"""Prunes the model at the end of `fit`: a trained model into `callback.pruned_model`.

A thin wrapper: the work is `plan`, `PruningPlan.apply` and `export`.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_dfprune.api.apply import plan as make_plan
from keras_dfprune.api.pruning_plan import PruningPlan
from keras_dfprune.exporting.export import export
from keras_dfprune.exporting.files import check_target
from keras_dfprune.graph.fingerprint import weights_digest
from keras_dfprune.methods.base import Method
from keras_dfprune.planning.request import check_budget, check_strategy, find_method, read_request
from keras_dfprune.report.warning import warn


class PostTrainPrune(keras.callbacks.Callback):
    """Prunes the model when training ends, and leaves the trained model as it is.

    Keras can't swap the model inside `fit`, so the result is an attribute of the callback. It has
    to be the **last** callback of the list: an `EarlyStopping(restore_best_weights=True)` behind
    it would change the weights after they were pruned. `pruned_model` notices that and warns.

    Args:
        export_path: Where `export` writes the pruned model (`.keras`, `.tflite`, `.onnx`, or a
            folder for a SavedModel), or None.
        validation_data: What `Model.fit` takes: a tuple `(x, y)` or `(x, y, sample_weight)`, or a
            data set. Where it is given, both models are scored on it. The data that `fit`
            got is out of a callback's reach.
        strict: Whether an error while pruning is raised out of `fit`. By default it is one warning
            and `callback.error`, so that the training isn't lost. A subclassed model, or the
            name of a layer or an input that the model doesn't have, is warned of, or raised,
            before the training.
        method: As in `apply`, like all that follow.
        sparsity: Fraction of units to remove, or a dict of them by layer name.
        max_params: Largest number of parameters that the result may have.
        tolerance: Largest predicted relative error of each group.
        layers: Names of the layers that may be pruned; None: all.
        verify: Whether the result is checked against the trained model.
        seed: Seed of whatever is random.
        strategy: A `tf.distribute.Strategy` whose replicas share the planning, or None.
        verbose: 0: silent; 1: prints the plan's table and the scores.

    Attributes:
        plan: The `PruningPlan`, or None as long as there is none.
        scores: Dict with the keys `"trained"` and `"pruned"`, each a dict of metrics on
            `validation_data`, or None.
        error: The exception that kept the model from being pruned, exported or scored, or None.

    Raises:
        ValueError: If nothing can be written at `export_path`, or an argument makes no sense
            whatever the model is.

    Example:
    ```python
    callback = dfprune.PostTrainPrune(sparsity=0.5, export_path="pruned.tflite")
    model.fit(x, y, epochs=10, callbacks=[early_stopping, callback])
    callback.pruned_model.summary()
    ```
    """

    def __init__(
        self,
        export_path: str | os.PathLike[str] | None = None,
        validation_data: Any = None,
        strict: bool = False,
        *,
        method: str | Method = "saliency",
        sparsity: float | Mapping[str, float] | None = None,
        max_params: int | None = None,
        tolerance: float | None = None,
        layers: Iterable[str] | None = None,
        verify: bool = True,
        seed: int = 0,
        strategy: tf.distribute.Strategy | None = None,
        verbose: int = 0,
    ):
        super().__init__()
        self.export_path = export_path
        self.validation_data = validation_data
        self.strict = strict
        if export_path is not None:
            check_target(export_path)  # rather now than after hours of training
        check_budget(find_method(method), sparsity, max_params, tolerance)
        check_strategy(find_method(method), strategy)
        self._arguments = {
            "method": method,
            "sparsity": sparsity,
            "max_params": max_params,
            "tolerance": tolerance,
            "layers": layers,
            "verify": verify,
            "seed": seed,
            "strategy": strategy,
            "verbose": verbose,
        }
        self._forget()

    @property
    def pruned_model(self) -> keras.Model | None:
        """The pruned model; None before the end of `fit`, and where pruning failed.

        Warns where the trained model's weights are no longer those that were pruned.
        """
        if self._pruned_model is not None and weights_digest(self.model) != self._digest:
            warn(
                "The model's weights changed after PostTrainPrune had pruned them, so pruned_model "
                "is not the pruned form of what the model is now. If another callback changed "
                "them when training ended (EarlyStopping with restore_best_weights=True, say), "
                "put PostTrainPrune behind it: callbacks=[early_stopping, post_train_prune]. "
                "If you trained on, call dfprune.apply(model)."
            )
        return self._pruned_model

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._forget()
        if isinstance(self.model, keras.Sequential) and not self.model.built:
            return  # the first batch builds it
        try:  # rather now than after hours of training
            method = find_method(self._arguments["method"])
            read_request(self.model, method, self._arguments["sparsity"], self._arguments["layers"])
        except Exception as error:
            if self.strict:
                raise
            warn(f"PostTrainPrune can't prune this model when its training ends: {error}")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        try:
            self._prune()
            if self.export_path is not None:
                export(self._pruned_model, self.export_path)
            if self.validation_data is not None:
                self._score()
        except Exception as error:  # whatever it is: hours of training hang on it
            if self.strict:
                raise
            self.error = error
            missing = "pruned" if self._pruned_model is None else "exported and scored"
            warn(
                f"The training is complete, but the model could not be {missing}: "
                f"{type(error).__name__}: {error} (kept in callback.error; strict=True raises it)"
            )

    def _forget(self) -> None:
        self.plan: PruningPlan | None = None
        self.scores: dict[str, dict[str, float]] | None = None
        self.error: Exception | None = None
        self._pruned_model: keras.Model | None = None
        self._digest: str | None = None

    def _prune(self) -> None:
        self._digest = weights_digest(self.model)
        self.plan = make_plan(self.model, **self._arguments)
        self._pruned_model = self.plan.apply(self.model)

    def _score(self) -> None:
        state = [(variable, variable.numpy()) for variable in self.model.metrics_variables]
        trained = _evaluate(self.model, self.validation_data)
        # The user's metrics go on from where `fit` left them.
        for variable, value in state:
            variable.assign(value)
        self.scores = {
            "trained": trained,
            "pruned": _evaluate(self._pruned_model, self.validation_data),
        }
        if self._arguments["verbose"]:
            for model, scores in self.scores.items():
                line = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
                sys.stdout.write(f"{model}: {line}\n")


def _evaluate(model: keras.Model, data: Any) -> dict[str, float]:
    arguments = data if isinstance(data, tuple | list) else (data,)
    x, y, weights = (*arguments, None, None)[:3]
    return model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
