"""Measure how long the verification of recurrent models takes, relative to one call of each model.

`python -m benchmarks.recurrent` from the repository root. Each case is an LSTM or GRU model with
sequences of unknown length or of 500 steps. The seconds of a call are those of calling the original
step by step, as `model(x)` does, on two sequences of the length that the verification uses.
"""

import json
import os
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_dfprune as dfprune
from keras_dfprune.inputs.sample_inputs import FREE_LENGTHS

LAYERS = {"LSTM": keras.layers.LSTM, "GRU": keras.layers.GRU}


def recurrent(kind: str, length: int | None, units: int = 32) -> keras.Model:
    """Build a model of two recurrent layers with a Dense layer in front of each."""
    layer = LAYERS[kind]
    inputs = keras.Input((length, 8))
    hidden = keras.layers.Dense(units, "relu")(inputs)
    hidden = keras.layers.Dense(units, "relu")(layer(units, return_sequences=True)(hidden))
    return keras.Model(inputs, keras.layers.Dense(4, "softmax")(layer(units)(hidden)))


def seconds(work: Callable[[], object]) -> float:
    """Measure the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(kind: str, length: int | None, rounds: int) -> dict:
    """Measure one case: medians over rounds, after one that warms up."""
    model = recurrent(kind, length)
    plan = dfprune.plan(model, method="saliency", sparsity=0.5)
    x = np.zeros((2, length or FREE_LENGTHS[0], 8), "float32")
    times = np.array(
        [
            [
                seconds(lambda: plan.apply(model, verify=False)),
                seconds(lambda: plan.apply(model, verify=True)),
                seconds(lambda: model(x)),
            ]
            for _ in range(rounds + 1)
        ]
    )[1:]
    without, verified, call = np.median(times, axis=0)
    # The original, the wide twin and the narrow model.
    ratio = (verified - without) / (3 * call)
    return {
        "layer": kind,
        "length": length,
        "verification, s": round(verified - without, 2),
        "one call, s": round(call, 2),
        "ratio to one call of each model": round(ratio, 2),
    }


def main(rounds: int = 3, lengths: tuple[int | None, ...] = (None, 500)) -> list[dict]:
    """Measure and print all cases."""
    warnings.simplefilter("ignore")  # of the change of the outputs
    results = []
    for kind in LAYERS:
        for length in lengths:
            results.append(measure(kind, length, rounds))
            print(json.dumps(results[-1]), flush=True)
    return results


if __name__ == "__main__":
    main()
