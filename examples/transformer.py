"""Trains a small transformer on scikit-learn's digits and prunes its feed-forward blocks.

Each image of 8 x 8 points is read as 16 patches of 2 x 2. The blocks are layers of the user's own,
which `functionalize` opens. Needs `pip install "keras_dfprune[demo]"`.
"""

import argparse

import keras
import numpy as np

import keras_dfprune as dfprune
from keras_dfprune.cli.demo import load_digits

layers, ops = keras.layers, keras.ops
PATCHES, WIDTH, HIDDEN = 16, 32, 128
FRACTIONS = (0.3, 0.5, 0.7, 0.9)


class Patches(layers.Layer):
    """An image of 64 points into 16 patches, each with what is learnt of its place."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.project = layers.Dense(WIDTH, name="project")
        self.place = layers.Embedding(PATCHES, WIDTH, name="place")

    def call(self, images):
        grid = ops.reshape(images, (-1, 4, 2, 4, 2))
        patches = ops.reshape(ops.transpose(grid, (0, 1, 3, 2, 4)), (-1, PATCHES, 4))
        return self.project(patches) + self.place(ops.arange(PATCHES))


class Block(layers.Layer):
    """Attention and a feed-forward part, each added to what came in."""

    def __init__(self, gated, **kwargs):
        super().__init__(**kwargs)
        self.norms = [layers.LayerNormalization(name=f"norm{number}") for number in range(2)]
        self.attend = layers.MultiHeadAttention(4, WIDTH // 4, name="attend")
        self.up = layers.Dense(HIDDEN, None if gated else "gelu", name="up")
        self.gate = layers.Dense(HIDDEN, "silu", name="gate") if gated else None
        self.down = layers.Dense(WIDTH, name="down")

    def call(self, x):
        normal = self.norms[0](x)
        x = x + self.attend(normal, normal)
        normal = self.norms[1](x)
        hidden = self.up(normal) if self.gate is None else self.up(normal) * self.gate(normal)
        return x + self.down(hidden)


class Transformer(keras.Model):
    """Patches, two blocks, and a layer that reads the mean of all places."""

    def __init__(self, gated):
        super().__init__(name="transformer")
        self.patches = Patches(name="patches")
        self.blocks = [Block(gated, name=f"block{number}") for number in range(2)]
        self.norm, self.pool = layers.LayerNormalization(), layers.GlobalAveragePooling1D()
        self.head = layers.Dense(10, "softmax", name="head")

    def call(self, images, training=None):
        x = self.patches(images)
        for block in self.blocks:
            x = block(x)
        return self.head(self.pool(self.norm(x)))


class SmallestFirst(dfprune.Method):
    """For comparison: the units with the smallest weights go, and nothing takes over."""

    def curve(self, group, context):
        size = np.linalg.norm(group.weight_sets, axis=1)
        order = np.argsort(size)[:-1]

        def merge(count):
            kept = np.sort(np.setdiff1d(np.arange(group.units), order[:count]))
            nothing = np.zeros((len(kept), count))
            return dfprune.LinearMerge(kept, order[:count], np.zeros(group.units), nothing)

        return dfprune.Curve(order, size[order], merge)


METHODS = {
    "smallest first": SmallestFirst,
    "saliency": dfprune.Saliency,
    "moments": dfprune.Moments,
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each kind; default: 1")
    parser.add_argument("--quick", action="store_true", help="one short training, one fraction")
    options = parser.parse_args(argv)

    train, test = load_digits()
    scores = {}
    for kind, gated in (("gated", True),) if options.quick else (("gelu", False), ("gated", True)):
        found = []
        for seed in range(options.seeds):
            model = _train(train, gated, seed, epochs=2 if options.quick else 40)
            opened = dfprune.functionalize(model, keras.Input((64,)))
            found.append(_score(opened, test, (0.5,) if options.quick else FRACTIONS))
        print(dfprune.plan(opened, sparsity=0.5))
        scores[kind] = {key: np.mean([one[key] for one in found]) for key in found[0]}
        print(_table(kind, scores[kind], options.seeds))
    return scores


def _train(train, gated, seed, epochs):
    keras.utils.set_random_seed(seed)
    model = Transformer(gated)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*train, epochs=epochs, batch_size=64, verbose=0)
    return model


def _score(model, test, fractions):
    """Accuracy by method and fraction of the units removed; parameters left by fraction."""
    found = {("trained", 0.0): _accuracy(model, test)}
    for fraction in fractions:
        for name, method in METHODS.items():
            pruned = dfprune.apply(model, method=method(), sparsity=fraction)
            found[name, fraction] = _accuracy(pruned, test)
        found["parameters", fraction] = pruned.count_params() / model.count_params()
    return found


def _accuracy(model, data):
    images, labels = data
    return float(np.mean(np.argmax(model(images), axis=-1) == labels))


def _table(kind, scores, seeds):
    fractions = sorted({fraction for _, fraction in scores if fraction})
    rows = [
        (f"{kind} (trained: {scores['trained', 0.0]:.4f})", *(f"{f:.0%}" for f in fractions)),
        ("---",) * (len(fractions) + 1),
        ("parameters left", *(f"{scores['parameters', f]:.0%}" for f in fractions)),
        *((name, *(f"{scores[name, f]:.4f}" for f in fractions)) for name in METHODS),
    ]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"Mean test accuracy over {seeds} trainings, by fraction of the units removed\n\n{table}"


if __name__ == "__main__":
    main()
