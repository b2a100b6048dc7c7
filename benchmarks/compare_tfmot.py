"""Prune a perceptron with tfmot: `compare_tfmot.py GIVEN.npz MADE.npz`.

`benchmarks/compare.py` runs this in an environment with tensorflow, tf_keras and
tensorflow-model-optimization.
"""

import os
import sys
import time

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras

EPOCHS, BATCH = 2, 128


def main(given: str, made: str) -> None:
    """Raise the share of zeros to the limit within half of the training."""
    with np.load(given) as file:
        names = sorted(name for name in file if name.startswith("w"))
        arrays = [file[name] for name in names]
        limit, x, y = int(file["limit"]), file["x"], file["y"]
    tf_keras.utils.set_random_seed(0)
    *hidden, last = [len(bias) for bias in arrays[1::2]]
    layers = [tf_keras.layers.Dense(width, "relu") for width in hidden]
    model = tf_keras.Sequential(
        [tf_keras.Input((len(arrays[0]),)), *layers, tf_keras.layers.Dense(last)]
    )
    model.set_weights(arrays)
    biases = sum(len(bias) for bias in arrays[1::2])
    zeros = 1.0 - (limit - biases) / sum(kernel.size for kernel in arrays[::2])
    steps = EPOCHS * -(-len(x) // BATCH)
    start = time.perf_counter()
    sparse = tfmot.sparsity.keras.prune_low_magnitude(
        model, tfmot.sparsity.keras.PolynomialDecay(0.0, zeros, 0, steps // 2, frequency=20)
    )
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sparse.compile(tf_keras.optimizers.Adam(3e-4), loss)
    update = tfmot.sparsity.keras.UpdatePruningStep()
    sparse.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=[update])
    stripped = tfmot.sparsity.keras.strip_pruning(sparse)
    seconds = time.perf_counter() - start
    weights = dict(zip(names, stripped.get_weights(), strict=True))
    np.savez(made, seconds=seconds, **weights)


if __name__ == "__main__":
    main(*sys.argv[1:])
