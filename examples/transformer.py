"""Train a small transformer on scikit-learn's digits, and prune its feed-forward blocks and heads.

`python examples/transformer.py`. Each image of 8 x 8 points is read as 16 patches of 2 x 2. The
blocks are custom layers, which `functionalize` replaces by the stock layers inside them. Needs
`pip install "keras_dfprune[demo]"`.
"""

import argparse
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.cli.demo import load_digits

layers, ops = keras.layers, keras.ops
PATCHES, WIDTH, HIDDEN = 16, 32, 128
FRACTIONS = (0.3, 0.5, 0.7, 0.9)
HEADS = 0.25  # of the dimensions of each head

Split = tuple[np.ndarray, np.ndarray]  # images and labels
# Accuracies by method and fraction of the units removed; "parameters": the share that is left.
Scores = dict[tuple[str, float], float]


class Patches(layers.Layer):
    """Projection of 16 patches of an image, plus learned position embeddings."""

    def __init__(self, **kwargs: object):
        super().__init__(**kwargs)
        self.project = layers.Dense(WIDTH, name="project")
        self.position = layers.Embedding(PATCHES, WIDTH, name="position")

    def call(self, images: tf.Tensor) -> tf.Tensor:
        grid = ops.reshape(images, (-1, 4, 2, 4, 2))
        patches = ops.reshape(ops.transpose(grid, (0, 1, 3, 2, 4)), (-1, PATCHES, 4))
        return self.project(patches) + self.position(ops.arange(PATCHES))


class Block(layers.Layer):
    """Attention and a feed-forward part, each with a residual connection."""

    def __init__(self, gated: bool, **kwargs: object):
        super().__init__(**kwargs)
        self.norms = [layers.LayerNormalization(name=f"norm{number}") for number in range(2)]
        self.attend = layers.MultiHeadAttention(4, WIDTH // 4, name="attend")
        self.up = layers.Dense(HIDDEN, None if gated else "gelu", name="up")
        self.gate = layers.Dense(HIDDEN, "silu", name="gate") if gated else None
        self.down = layers.Dense(WIDTH, name="down")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        normalized = self.norms[0](x)
        x = x + self.attend(normalized, normalized)
        normalized = self.norms[1](x)
        hidden = self.up(normalized)
        if self.gate is not None:
            hidden = hidden * self.gate(normalized)
        return x + self.down(hidden)


class Transformer(keras.Model):
    """Patches, two blocks, and a classifier of the mean over all positions."""

    def __init__(self, gated: bool):
        super().__init__(name="transformer")
        self.patches = Patches(name="patches")
        self.blocks = [Block(gated, name=f"block{number}") for number in range(2)]
        self.norm, self.pool = layers.LayerNormalization(), layers.GlobalAveragePooling1D()
        self.head = layers.Dense(10, "softmax", name="head")

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = self.patches(images)
        for block in self.blocks:
            x = block(x)
        return self.head(self.pool(self.norm(x)))


class SmallestFirst(dfprune.Method):
    """Baseline that removes the units with the smallest weights, without surgery."""

    def curve(self, group: dfprune.GroupView, context: dfprune.Context) -> dfprune.Curve:
        size = np.linalg.norm(group.weight_sets, axis=1)
        order = np.argsort(size)[:-1]

        def merge(count: int) -> dfprune.LinearMerge:
            kept = np.setdiff1d(np.arange(group.units), order[:count])
            coefficients = np.zeros((len(kept), count))
            return dfprune.LinearMerge(kept, order[:count], np.zeros(group.units), coefficients)

        return dfprune.Curve(order, size[order], merge)


METHODS: dict[str, type[dfprune.Method]] = {
    "smallest first": SmallestFirst,
    "saliency": dfprune.Saliency,
    "moments": dfprune.Moments,
}


def main(argv: list[str] | None = None) -> dict[str, Scores]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=int, default=1, help="models to train of each kind; default: 1"
    )
    parser.add_argument("--quick", action="store_true", help="one short training and one fraction")
    options = parser.parse_args(argv)

    train, test = load_digits()
    scores = {}
    for kind, gated in (("gelu", False), ("gated", True)):
        results = []
        for seed in range(options.seeds):
            model = _train(train, gated, seed, epochs=2 if options.quick else 40)
            opened = dfprune.functionalize(model, keras.Input((64,)))
            results.append(_score(opened, test, (0.5,) if options.quick else FRACTIONS))
        print(dfprune.plan(opened, sparsity=0.5))
        heads = dfprune.apply(opened, sparsity={"block*_attend": HEADS}, data=train[0][:256])
        print(
            f"{kind}, {HEADS:.0%} of the dimensions of every head removed: accuracy "
            f"{_accuracy(opened, test):.4f} -> {_accuracy(heads, test):.4f}, "
            f"{opened.count_params():,} -> {heads.count_params():,} parameters"
        )
        both = dfprune.apply(opened, max_params=0.5, data=train[0][:256])
        print(
            f"{kind}, half of the parameters, shared out over blocks and heads: "
            f"accuracy {_accuracy(both, test):.4f}"
        )
        scores[kind] = {
            key: float(np.mean([result[key] for result in results])) for key in results[0]
        }
        print(_table(kind, scores[kind], options.seeds))
    return scores


def _train(train: Split, gated: bool, seed: int, epochs: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = Transformer(gated)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*train, epochs=epochs, batch_size=64, verbose=0)
    return model


def _score(model: keras.Model, test: Split, fractions: Sequence[float]) -> Scores:
    """Measure accuracies by method and fraction of the units removed, and parameters left."""
    scores = {("trained", 0.0): _accuracy(model, test)}
    for fraction in fractions:
        for name, method in METHODS.items():
            pruned = dfprune.apply(model, method=method(), sparsity=fraction)
            scores[name, fraction] = _accuracy(pruned, test)
        scores["parameters", fraction] = pruned.count_params() / model.count_params()
    return scores


def _accuracy(model: keras.Model, data: Split) -> float:
    images, labels = data
    return float(np.mean(np.argmax(model(images), axis=-1) == labels))


def _table(kind: str, scores: Scores, seeds: int) -> str:
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
