"""Make a functional model of a subclassed model, or of a model with composite layers.

`call` is run on symbolic inputs, and so is the `call` of every custom layer that holds Dense or
convolution layers. The functional model is compared with the original before it is returned.
"""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_dfprune.api.open_composites import Opener
from keras_dfprune.rebuild.compile_state import carry_compile_state
from keras_dfprune.rebuild.overrides import warn_of_lost_overrides
from keras_dfprune.report.silence import without_keras_warnings
from keras_dfprune.report.warning import warn


def functionalize(model: keras.Model, inputs: Any) -> keras.Model:
    """Make a subclassed model functional, so that its layers can be seen and pruned.

    `model.call` is run on symbolic inputs, and with it the `call` of each custom layer inside that
    holds Dense layers, convolutions or the like; all other layers are taken as they are. A layer
    whose `call` doesn't run on symbolic tensors, or that then computes something else, stays
    whole. One warning names these layers, with the reasons.

    Args:
        model: A built `keras.Model` of any kind, usually subclassed. It is not changed, though
            the Python code in its `call` runs a few times.
        inputs: The inputs that the model is called with: one tensor, or a list or dict of tensors,
            each as `keras.Input(shape, dtype=...)` or as an example array with the batch axis
            first.

    Returns:
        A functional `keras.Model` with weights of its own. It computes what the original computes,
        in training too. The state, names and trainable flags of the layers are the original's; a
        name that occurs twice follows that of the layer around it. If the original is compiled,
        the functional model is compiled likewise.

    Raises:
        TypeError: If `model` is not a Keras model or `inputs` holds no tensors.
        ValueError: If the model isn't built, its `call` can't be run on symbolic tensors, or the
            functional model computes something else.

    Examples:
        >>> import keras, numpy as np, keras_dfprune as dfprune
        >>> class Net(keras.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.hidden = keras.layers.Dense(20, "relu")
        ...         self.head = keras.layers.Dense(3)
        ...
        ...     def call(self, x):
        ...         return self.head(self.hidden(x))
        >>> net = Net()
        >>> _ = net(np.ones((1, 8)))  # which builds its layers
        >>> functional = dfprune.functionalize(net, keras.Input((8,)))
        >>> dfprune.apply(functional, sparsity=0.5).count_params()
        123
    """
    _check(model)
    form = functional_form(model, symbols_of(inputs))
    if form.whole:
        reasons = "; ".join(f"{layer}: {reason}" for layer, reason in form.whole.items())
        warn(f"Layers left whole by functionalize: {reasons}")
    return form.model


@dataclasses.dataclass(frozen=True, eq=False)
class FunctionalForm:
    """Functional form of a model, with weights of its own.

    Attributes:
        model: The functional model, compiled as the original is.
        whole: Why custom layers stay whole, by their names and types.
    """

    model: keras.Model
    whole: dict[str, str]


def functional_form(model: keras.Model, symbols: Any) -> FunctionalForm:
    """Make the functional form of a model, with as many custom layers opened as possible.

    Args:
        model: A built model.
        symbols: Its inputs, as made by `keras.Input`.

    Raises:
        ValueError: If the model can't be made functional.
    """
    opener = Opener(model, symbols)
    with without_keras_warnings():
        result = opener.open_all_possible()
    carry_compile_state(model, result.model, result.pairs)
    warn_of_lost_overrides(model)
    whole = {
        f"{error.layer.name} ({type(error.layer).__name__})": error.reason
        for error in opener.whole.values()
    }
    return FunctionalForm(result.model, whole)


def _check(model: keras.Model) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"Expected a `keras.Model`. Received: {model!r} of type {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' isn't built yet, so it has no weights. Call it once on data "
            "before `functionalize`."
        )


def symbols_of(inputs: Any) -> Any:
    """Make symbolic inputs like the given ones.

    Args:
        inputs: One tensor, or a list or dict of tensors: symbolic ones or example arrays.

    Raises:
        TypeError: If anything else is among them.
    """
    if isinstance(inputs, dict):  # Keras wants the name of an input to be its key
        return {
            key: symbols_of(value) if keras.tree.is_nested(value) else _symbol(value, key)
            for key, value in inputs.items()
        }
    return keras.tree.map_structure(_symbol, inputs)


def _symbol(value: Any, name: str | None = None) -> keras.KerasTensor:
    if isinstance(value, keras.KerasTensor):
        shape, dtype, name = value.shape, value.dtype, name or value.name
    elif isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
        shape = (None, *value.shape[1:])
        dtype = keras.backend.standardize_dtype(value.dtype)
    else:
        raise TypeError(
            "`inputs` must be what the model is called with, each tensor as `keras.Input(shape)` "
            "or as an example array: dfprune.functionalize(model, keras.Input((28, 28, 1))). "
            f"Received: {value!r} of type {type(value).__name__}"
        )
    return keras.Input(batch_shape=shape, dtype=dtype, name=name)
