"""Compute the units of recurrent layers from what their gates get of the inputs, in NumPy."""

from collections.abc import Callable

import keras
import numpy as np

from keras_dfprune.rules.activations import describe

Function = Callable[[np.ndarray], np.ndarray]


def run_recurrence(
    layer: keras.layers.RNN,
    gates: np.ndarray,
    recurrent_kernel: np.ndarray,
    bias: np.ndarray | None,
) -> np.ndarray:
    """Compute the units of a recurrent layer at every step, starting from 0.

    Args:
        layer: An `LSTM`, `GRU` or `SimpleRNN`, for its activations.
        gates: `x @ kernel` with the bias that belongs to the input, `(rows, steps, columns)`.
        recurrent_kernel: Float array, shape `(units, columns)`.
        bias: The further bias of a GRU with `reset_after`, shape `(columns,)`; else None.

    Returns:
        Float array, shape `(rows, steps, units)`.
    """
    act = describe(layer.activation, layer.units).values
    units = len(recurrent_kernel)
    hidden = np.zeros((len(gates), units), gates.dtype)
    values = []
    if isinstance(layer, keras.layers.SimpleRNN):
        for z in np.moveaxis(gates, 1, 0):
            hidden = act(z + hidden @ recurrent_kernel)
            values.append(hidden)
        return np.stack(values, axis=1)
    gate = describe(layer.recurrent_activation, layer.units).values
    cell = np.zeros_like(hidden)
    for z in np.moveaxis(gates, 1, 0):
        if isinstance(layer, keras.layers.LSTM):
            i, f, c, o = np.split(z + hidden @ recurrent_kernel, 4, axis=1)
            cell = gate(f) * cell + gate(i) * act(c)
            hidden = gate(o) * act(cell)
        else:
            hidden = _gru_step(layer.reset_after, z, hidden, recurrent_kernel, bias, act, gate)
        values.append(hidden)
    return np.stack(values, axis=1)


def _gru_step(
    reset_after: bool,
    z: np.ndarray,
    hidden: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    act: Function,
    gate: Function,
) -> np.ndarray:
    """Return the units of a GRU after one step."""
    units = len(kernel)
    recurrent = hidden @ kernel[:, : 2 * units]
    if bias is not None:
        recurrent = recurrent + bias[: 2 * units]
    update, reset = np.split(gate(z[:, : 2 * units] + recurrent), 2, axis=1)
    if reset_after:
        inner = hidden @ kernel[:, 2 * units :]
        inner = reset * (inner if bias is None else inner + bias[2 * units :])
    else:
        inner = (reset * hidden) @ kernel[:, 2 * units :]
    return update * hidden + (1 - update) * act(z[:, 2 * units :] + inner)
