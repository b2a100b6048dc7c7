"""Prune a model at the end of `fit`.

The callback is a thin wrapper: the work is done by `plan`, `PruningPlan.apply` and `export`.
"""

import os
import sys
from typing import Any

import keras

from keras_dfprune.api.apply import plan_and_apply
from keras_dfprune.api.evaluation import check_limits, keeps_metrics
from keras_dfprune.api.open_model import locate_in_any
from keras_dfprune.api.pruning_plan import PruningPlan
from keras_dfprune.api.search import check_no_budget, search
from keras_dfprune.exporting.export import export
from keras_dfprune.exporting.files import check_target
from keras_dfprune.graph.fingerprint import weights_digest
from keras_dfprune.planning.chosen_groups import choose_groups
from keras_dfprune.planning.request import read_request
from keras_dfprune.report.warning import warn


class PostTrainPrune(keras.callbacks.Callback):
    """Callback that prunes the model when training ends, and leaves the trained model as it is.

    Keras can't replace the model inside `fit`, so the result is an attribute of the callback. Make
    it the **last** callback of the list: an `EarlyStopping(restore_best_weights=True)` behind it
    would change the weights after they were pruned. `pruned_model` notices that and warns.

    Args:
        export_path: Where `export` writes the pruned model (`.keras`, `.tflite`, `.onnx`, or a
            folder for a SavedModel), or None.
        validation_data: What `Model.fit` takes: a tuple `(x, y)` or `(x, y, sample_weight)`, or a
            data set. Both models are scored on it. None (default): no scores, because Keras gives
            a callback no access to the data of `fit`.
        max_drop: How much worse than the trained model's the score on `validation_data` may be, as
            in `search`, which then finds the size. None (default): the budget of `arguments`.
        strict: Whether an error while pruning is raised out of `fit`. By default it is one warning
            and `callback.error`, so that the training isn't lost. Whether the model can be pruned,
            and the names of layers and inputs, are checked before training starts.
        **arguments: The arguments of `apply` except the model, with the same defaults. `verbose=1`
            also prints the scores.

    Attributes:
        plan: The `PruningPlan`, or None before the end of `fit`.
        scores: Dict with the keys `"trained"` and `"pruned"`, each a dict of metrics on
            `validation_data`, or None.
        error: The first exception that kept the model from being pruned, exported or scored, or
            None.

    Raises:
        TypeError: For an argument that `apply` doesn't have.
        ValueError: If nothing can be written at `export_path`, or an argument makes no sense
            whatever the model is.

    Examples:
        >>> import keras, numpy as np, keras_dfprune as dfprune
        >>> model = keras.Sequential([keras.Input((8,)), *map(keras.layers.Dense, (20, 3))])
        >>> model.compile("adam", "mse")
        >>> x, y = np.ones((64, 8)), np.ones((64, 3))
        >>> prune = dfprune.PostTrainPrune(sparsity=0.5)
        >>> history = model.fit(x, y, callbacks=[prune], verbose=0)
        >>> prune.pruned_model.layers[0].units
        10
    """

    def __init__(
        self,
        export_path: str | os.PathLike[str] | None = None,
        validation_data: Any = None,
        max_drop: float | None = None,
        strict: bool = False,
        **arguments: Any,
    ):
        super().__init__()
        self.max_drop = max_drop
        if max_drop is not None:
            check_limits(max_drop, None)
            check_no_budget(arguments)
            if not isinstance(validation_data, tuple | list):
                raise ValueError(
                    "`max_drop` is about the score on `validation_data`: give it as a tuple (x, y)."
                )
        self._arguments = arguments
        self.export_path = export_path
        self.validation_data = validation_data
        self.strict = strict
        # Wrong arguments are an error now, and not after hours of training.
        if export_path is not None:
            check_target(export_path)
        self._request = read_request(**arguments)
        self.plan: PruningPlan | None = None
        self.scores: dict[str, dict[str, float]] | None = None
        self.error: Exception | None = None
        self._pruned_model: keras.Model | None = None
        self._digest: str | None = None

    @property
    def pruned_model(self) -> keras.Model | None:
        """Pruned model, or None before the end of `fit` and where pruning failed.

        Reading it warns if the trained model's weights are no longer those that were pruned.
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
        if not self.model.built:
            return  # The first batch builds it.
        try:
            choose_groups(locate_in_any(self.model), self._request)
        except Exception as error:
            if self.strict:
                raise
            warn(f"PostTrainPrune can't prune this model when its training ends: {error}")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        for done, step in (
            ("pruned", self._prune),
            ("exported", self._export),
            ("scored", self._score),
        ):
            try:
                step()
            except Exception as error:  # Whatever it is, the training must not be lost.
                if self.strict:
                    raise
                self.error = self.error or error
                warn(
                    f"The training is complete, but the model could not be {done}: "
                    f"{type(error).__name__}: {error} (kept in callback.error; strict=True raises "
                    "it)"
                )
            if self._pruned_model is None:
                return

    def _forget(self) -> None:
        self.plan = self.scores = self.error = self._pruned_model = self._digest = None

    def _prune(self) -> None:
        self._digest = weights_digest(self.model)
        if self.max_drop is None:
            self.plan, self._pruned_model = plan_and_apply(self.model, self._request)
            return
        found = search(self.model, self.validation_data, max_drop=self.max_drop, **self._arguments)
        self.plan, self._pruned_model = found.plan, found.model

    def _export(self) -> None:
        if self.export_path is not None:
            export(self._pruned_model, self.export_path)

    def _score(self) -> None:
        if self.validation_data is None:
            return
        with keeps_metrics(self.model):
            trained = _evaluate(self.model, self.validation_data)
        self.scores = {
            "trained": trained,
            "pruned": _evaluate(self._pruned_model, self.validation_data),
        }
        if self._request.verbose:
            for model, scores in self.scores.items():
                line = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
                sys.stdout.write(f"{model}: {line}\n")


def _evaluate(model: keras.Model, data: Any) -> dict[str, float]:
    arguments = data if isinstance(data, tuple | list) else (data,)
    x, y, weights = (*arguments, None, None)[:3]
    return model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
