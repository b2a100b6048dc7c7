"""Measure the accuracy of pruned recurrent networks on digits read row by row.

`python -m benchmarks.recurrent_accuracy` from the repository root. Each network reads the images of
scikit-learn's digits as sequences of 8 rows of 8 pixels. A part of its recurrent units is removed,
without data or with the training rows, and by dropping the smallest units.
"""

import json
import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_dfprune as dfprune
from benchmarks.baselines import Drop

LAYERS = {"LSTM": keras.layers.LSTM, "GRU": keras.layers.GRU}
TRAINING_ROWS = 1297
CUTS = (0.3, 0.5)


def measure(kind: str, seed: int, epochs: int = 25, cuts: tuple[float, ...] = CUTS) -> dict:
    """Train one network, prune it and return the accuracies on the test rows."""
    keras.utils.set_random_seed(seed)
    images, labels = load_digits(return_X_y=True)
    order = np.random.permutation(len(images))
    x, y = (images[order].reshape(-1, 8, 8) / 16).astype("float32"), labels[order]
    train, test = slice(TRAINING_ROWS), slice(TRAINING_ROWS, None)
    model = keras.Sequential(
        [keras.Input((8, 8)), LAYERS[kind](64), keras.layers.Dense(10, "softmax")]
    )
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
    model.fit(x[train], y[train], 64, epochs, verbose=0)

    def accuracy(network: keras.Model) -> float:
        return round(float(np.mean(np.argmax(network(x[test]), axis=1) == y[test])), 3)

    ways = {
        "moments": {"method": "moments"},
        "moments, data": {"method": "moments", "data": x[train]},
        "saliency": {"method": "saliency"},
        "smallest": {"method": Drop("weights")},
    }
    result = {"layer": kind, "seed": seed, "whole": accuracy(model)}
    for cut in cuts:
        for name, way in ways.items():
            pruned = dfprune.apply(model, sparsity=cut, verify=False, **way)
            result[f"{name} {cut:.0%}"] = accuracy(pruned)
    return result


def main(seeds: int = 2) -> None:
    """Measure and print all networks."""
    warnings.simplefilter("ignore")  # of the change of the outputs
    for kind in LAYERS:
        for seed in range(seeds):
            print(json.dumps(measure(kind, seed)), flush=True)


if __name__ == "__main__":
    main()
