"""Measure what the cut of one kind of layer costs a trained network, beside the simplest baseline.

`python -m benchmarks.kinds_accuracy` from the repository root. The data are scikit-learn's digits,
images of 8 x 8 pixels. Recurrent networks read them row by row; a network with grouped convolutions
classifies them; an autoencoder draws them again with transposed convolutions. The same part of the
units of every layer that can be pruned is removed: without data, with the training rows, by the
paper's method, and by dropping the smallest units. The score is the accuracy on test rows, of the
autoencoder the share of the variance that it explains.
"""

import argparse
import json
import os
import warnings
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_dfprune as dfprune
from benchmarks.baselines import Drop

layers = keras.layers
TRAINING_ROWS = 1297
CUTS = (0.3, 0.5)


def recurrent(kind: type[keras.layers.RNN]) -> Callable[[], keras.Model]:
    """Return a function that builds a classifier of rows of pixels."""
    return lambda: keras.Sequential(
        [
            keras.Input((8, 8)),
            kind(64),
            layers.Dense(10, "softmax"),
        ]
    )


def grouped() -> keras.Model:
    """Build a classifier with grouped convolutions."""
    return keras.Sequential(
        [
            keras.Input((8, 8)),
            layers.Reshape((8, 8, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, groups=4, activation="relu"),
            layers.Conv2D(64, 3, groups=4, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, "softmax"),
        ]
    )


def transposed() -> keras.Model:
    """Build an autoencoder whose decoder has transposed convolutions."""
    return keras.Sequential(
        [
            keras.Input((8, 8)),
            layers.Flatten(),
            layers.Dense(64, "relu"),
            layers.Dense(12, name="code"),
            layers.Dense(2 * 2 * 32, "relu"),
            layers.Reshape((2, 2, 32)),
            layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(1, 3, padding="same"),
            layers.Reshape((8, 8)),
        ]
    )


NETWORKS = {
    "LSTM": recurrent(layers.LSTM),
    "GRU": recurrent(layers.GRU),
    "grouped convolutions": grouped,
    "transposed convolutions": transposed,
}


def measure(kind: str, seed: int, epochs: int = 25, cuts: tuple[float, ...] = CUTS) -> dict:
    """Train one network, prune it and return the scores on the test rows."""
    keras.utils.set_random_seed(seed)
    images, labels = load_digits(return_X_y=True)
    order = np.random.permutation(len(images))
    x, y = (images[order].reshape(-1, 8, 8) / 16).astype("float32"), labels[order]
    train, test = slice(TRAINING_ROWS), slice(TRAINING_ROWS, None)
    model = NETWORKS[kind]()
    draws = model.output_shape[1:] == (8, 8)
    targets, loss = (x, "mse") if draws else (y, "sparse_categorical_crossentropy")
    model.compile(keras.optimizers.Adam(5e-3), loss)
    model.fit(x[train], targets[train], 64, epochs, verbose=0)

    def score(network: keras.Model) -> float:
        outputs = np.asarray(network(x[test]))
        if draws:
            left = np.square(outputs - x[test]).sum() / np.square(x[test] - x[test].mean(0)).sum()
            return round(float(1 - left), 3)
        return round(float(np.mean(np.argmax(outputs, axis=1) == y[test])), 3)

    ways = {
        "moments": {"method": "moments"},
        "moments, data": {"method": "moments", "data": x[train]},
        "saliency": {"method": "saliency"},
        "smallest": {"method": Drop("weights")},
    }
    result = {"network": kind, "seed": seed, "whole": score(model)}
    for cut in cuts:
        for name, way in ways.items():
            whole = ["code"] if draws else []
            pruned = dfprune.apply(model, sparsity=cut, exclude=whole, verify=False, **way)
            result[f"{name} {cut:.0%}"] = score(pruned)
    return result


def main(argv: list[str] | None = None) -> None:
    """Measure and print all networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each; default: 2")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # of the change of the outputs
    for kind in options.networks:
        for seed in range(options.seeds):
            print(json.dumps(measure(kind, seed)), flush=True)


if __name__ == "__main__":
    main()
