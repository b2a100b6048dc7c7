"""Prune the 500-unit layer of Caffe's LeNet-5 on MNIST, and print accuracy by units removed.

`python examples/lenet_mnist.py --data-dir DIR`. It repeats the experiment of Srinivas & Babu (BMVC
2015) with and without surgery. Needs `pip install "keras_dfprune[data]"` and MNIST as prepared by
tensorflow-datasets, in the folder `--data-dir` or TFDS_DATA_DIR.
"""

import argparse
import os
import pathlib
from collections.abc import Sequence

import keras
import numpy as np

import keras_dfprune as dfprune

Split = tuple[np.ndarray, np.ndarray]  # images and labels


def main(argv: list[str] | None = None) -> list[tuple[int, float, float]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", default=os.environ.get("TFDS_DATA_DIR"), help="TFDS folder")
    parser.add_argument("--download", action="store_true", help="download MNIST if it is missing")
    parser.add_argument("--epochs", type=int, default=8, help="default: 8")
    parser.add_argument("--model", type=pathlib.Path, help="file to keep the trained model in")
    parser.add_argument("--step", type=int, default=20, help="units from row to row; default: 20")
    parser.add_argument("--quick", action="store_true", help="2,000 images, one epoch, four rows")
    options = parser.parse_args(argv)

    train, test = load_mnist(options.data_dir, options.download)
    if options.quick:
        train, test = ((images[:2000], labels[:2000]) for images, labels in (train, test))
        options.epochs, options.step = 1, 200
    if options.model and options.model.exists():
        model = keras.saving.load_model(options.model)
    else:
        model = train_lenet(train, options.epochs)
        if options.model:
            model.save(options.model)
    print(f"trained: accuracy {score(model, test):.4f}, {model.count_params():,} parameters")
    return accuracy_table(model, test, range(0, 500, options.step))


def accuracy_table(
    model: keras.Model, test: Split, removals: Sequence[int]
) -> list[tuple[int, float, float]]:
    """Print and return a row for each number of removed units."""
    methods = [dfprune.Saliency(), dfprune.Saliency(surgery=False)]
    print("removed  parameters  accuracy  without surgery")
    rows = []
    for removed in [*removals, 490] if removals[-1] < 490 else removals:
        models = [
            dfprune.apply(model, method=method, sparsity={"fc1": removed / 500})
            for method in methods
        ]
        with_surgery, without = (score(pruned, test) for pruned in models)
        rows.append((removed, with_surgery, without))
        parameters = models[0].count_params()
        print(f"{removed:7}  {parameters:10,}  {with_surgery:8.4f}  {without:15.4f}")
    return rows


def load_mnist(data_dir: str | None, download: bool) -> list[Split]:
    """Load `(images, labels)` of MNIST for training and for testing, pixels in [0, 1]."""
    import tensorflow_datasets as tfds

    splits = tfds.load(
        "mnist",
        data_dir=data_dir,
        download=download,
        split=["train", "test"],
        batch_size=-1,
        as_supervised=True,
    )
    return [
        (np.asarray(images, np.float32) / 255.0, np.asarray(labels))
        for images, labels in tfds.as_numpy(splits)
    ]


def train_lenet(data: Split, epochs: int) -> keras.Model:
    """Train Caffe's LeNet-5: two convolutions with max pooling, and two dense layers."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(20, 5, name="conv1"),
            layers.MaxPooling2D(),
            layers.Conv2D(50, 5, name="conv2"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(500, activation="relu", name="fc1"),
            layers.Dense(10, name="fc2"),
        ],
        name="lenet5",
    )
    steps = epochs * -(-len(data[0]) // 64)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(*data, epochs=epochs, batch_size=64, verbose=2)
    return model


def score(model: keras.Model, test: Split) -> float:
    """Return the accuracy on the test images."""
    return model.evaluate(*test, batch_size=500, verbose=0, return_dict=True)["accuracy"]


if __name__ == "__main__":
    main()
