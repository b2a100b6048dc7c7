"""A model's inputs into small random arrays that are valid for each dtype."""

import keras
import numpy as np

from keras_dfprune.graph import functional_core

# Lengths tried for axes of unknown length, until the model accepts one.
_LENGTHS = (8, 32, 64, 224)


def sample_inputs(model: keras.Model, batch: int = 2, seed: int = 0, length: int = 8):
    """Draws inputs in the structure that the model takes.

    Args:
        model: A built Sequential or Functional model.
        batch: Number of examples, where the model leaves it open.
        seed: Seed of the draws.
        length: What an axis of unknown length gets.

    Returns:
        Tensors in the structure of the model's inputs: standard normal floats, integers 0 and 1
        (valid indices of every table), booleans, one-letter strings.
    """
    generator = np.random.default_rng(seed)

    def draw(symbol):
        sizes = [length if size is None else size for size in symbol.shape]
        if symbol.shape and symbol.shape[0] is None:
            sizes[0] = batch
        if symbol.dtype == "string":
            return keras.ops.convert_to_tensor(generator.choice(["a", "b"], sizes), dtype="string")
        if symbol.dtype == "bool":
            values = generator.random(sizes) < 0.5
        elif "int" in symbol.dtype:
            values = generator.integers(0, 2, sizes)
        else:
            values = generator.standard_normal(sizes)
        return keras.ops.convert_to_tensor(values, dtype=symbol.dtype, sparse=symbol.sparse)

    return keras.tree.map_structure(draw, functional_core(model).input)


def accepted_inputs(model: keras.Model, batch: int = 2, seed: int = 0):
    """Inputs that the model runs on, axes of unknown length included.

    Raises:
        ValueError: If it runs on none of those tried; the cause is the last error.
    """
    unknown = any(None in symbol.shape[1:] for symbol in functional_core(model).inputs)
    for length in _LENGTHS if unknown else _LENGTHS[:1]:
        inputs = sample_inputs(model, batch, seed, length)
        try:
            model(inputs)
        except Exception as error:  # whatever a layer raises for inputs that are too short
            failure = error
        else:
            return inputs
    raise ValueError("no random inputs were found that the model accepts") from failure
