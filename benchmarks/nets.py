"""Build, train and cache the networks that the benchmarks and the paper's figures prune.

They are LeNet-5 in Caffe's form (LeCun et al. 1998), LeNet-300-100 with relu, with gelu and with
BatchNormalization, a small ResNet, a small AlexNet, and a perceptron on scikit-learn's digits.
"""

import argparse
import dataclasses
import os
import pathlib
from collections.abc import Callable

import keras
import numpy as np

layers = keras.layers
# Training images with `--quick`, which trains for one epoch: enough to try the code.
QUICK_IMAGES = 2000
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Net:
    """Architecture and training settings of a network.

    Attributes:
        build: Builds the untrained model; its outputs are logits.
        epochs: Passes over the training images.
        batch_size: Images in a step.
    """

    build: Callable[[], keras.Model]
    epochs: int
    batch_size: int = 128


def lenet5() -> keras.Sequential:
    """Build Caffe's LeNet, 20-50-500-10, with linear convolutions; 431,080 parameters."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(20, 5, name="c1"),
            layers.MaxPooling2D(name="p1"),
            layers.Conv2D(50, 5, name="c2"),
            layers.MaxPooling2D(name="p2"),
            layers.Flatten(name="flat"),
            layers.Dense(500, activation="relu", name="fc1"),
            layers.Dense(CLASSES, name="out"),
        ]
    )


def perceptron(inputs: int, widths: tuple[int, ...], activation: str) -> keras.Sequential:
    """Build dense layers `fc1`, `fc2`, ... and a dense head of logits, `out`."""
    hidden = [
        layers.Dense(width, activation=activation, name=f"fc{number}")
        for number, width in enumerate(widths, 1)
    ]
    head = layers.Dense(CLASSES, name="out")
    return keras.Sequential([keras.Input((inputs,)), *hidden, head])


def batchnorm() -> keras.Sequential:
    """Build LeNet-300-100 with a BatchNormalization before each activation."""
    hidden = []
    for number, width in enumerate((300, 100), 1):
        hidden += [
            layers.Dense(width, name=f"fc{number}"),
            layers.BatchNormalization(name=f"b{number}"),
            layers.ReLU(name=f"relu{number}"),
        ]
    return keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(CLASSES, name="out")])


def resnet() -> keras.Model:
    """Build six residual blocks of 16, 32 and 64 filters; 176,090 parameters."""
    inputs = keras.Input((28, 28, 1))
    hidden = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="stem")(inputs)
    hidden = layers.ReLU()(layers.BatchNormalization()(hidden))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(2):
            strides = 2 if stage and not block else 1
            hidden = _residual_block(hidden, filters, strides, f"s{stage}b{block}")
    hidden = layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(inputs, layers.Dense(CLASSES, name="out")(hidden))


def _residual_block(
    hidden: keras.KerasTensor, filters: int, strides: int, name: str
) -> keras.KerasTensor:
    def normalized(
        tensor: keras.KerasTensor, size: int, strides: int, suffix: str
    ) -> keras.KerasTensor:
        layer = layers.Conv2D(
            filters, size, strides, padding="same", use_bias=False, name=f"{name}_{suffix}"
        )
        return layers.BatchNormalization()(layer(tensor))

    branch = layers.ReLU()(normalized(hidden, 3, strides, "first"))
    branch = normalized(branch, 3, 1, "second")
    if hidden.shape[-1] != filters:
        hidden = normalized(hidden, 1, strides, "shortcut")
    return layers.ReLU()(layers.Add()([hidden, branch]))


def alexnet() -> keras.Sequential:
    """Build AlexNet's eight layers for 28x28 pixels; 282,050 parameters.

    It has 1/16 of AlexNet's dense widths and 1/8 to 1/4 of its filters. The flattened image is 2.25
    times as wide as fc6 and fc7, as in AlexNet.
    """
    body = []
    for number, filters in enumerate((12, 32, 48, 48, 64), 1):
        same = {"padding": "same", "activation": "relu"}
        body.append(layers.Conv2D(filters, 3, name=f"conv{number}", **same))
        if number in (1, 2, 5):
            body.append(layers.MaxPooling2D(name=f"pool{number}"))
    body.append(layers.Flatten(name="flat"))
    for number in (6, 7):
        body.append(layers.Dense(256, activation="relu", name=f"fc{number}"))
        body.append(layers.Dropout(0.5, name=f"drop{number}"))
    head = layers.Dense(CLASSES, name="fc8")
    return keras.Sequential([keras.Input((28, 28, 1)), *body, head])


NETS = {
    "lenet5": Net(lenet5, epochs=6),
    "lenet300": Net(lambda: perceptron(784, (300, 100), "relu"), epochs=12),
    "batchnorm": Net(batchnorm, epochs=10),
    "gelu": Net(lambda: perceptron(784, (300, 100), "gelu"), epochs=10),
    "resnet": Net(resnet, epochs=5),
    "alexnet": Net(alexnet, epochs=5),
    "digits": Net(lambda: perceptron(64, (256, 256), "relu"), epochs=30, batch_size=32),
}
IMAGES = ("mnist", "fashion_mnist")
DATASETS = {name: ("digits",) if name == "digits" else IMAGES for name in NETS}


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Attributes:
        x: Float32 array of images with values in [0, 1], the first axis counting images.
        y: Int64 array of labels, shape `(images,)`.
    """

    x: np.ndarray
    y: np.ndarray

    def shaped_for(self, model: keras.Model) -> "Split":
        """Return the same images in the input shape of a model."""
        return Split(self.x.reshape(-1, *model.input_shape[1:]), self.y)


def load_data(dataset: str, data_dir: str | None = None) -> tuple[Split, Split]:
    """Load training and test images from disk, without downloading anything.

    Args:
        dataset: `"mnist"` or `"fashion_mnist"`, read through tensorflow-datasets, or `"digits"`,
            which comes with scikit-learn (1,297 to train, 500 to test).
        data_dir: Folder of the prepared data sets; default: the environment variable TFDS_DATA_DIR.

    Raises:
        FileNotFoundError: If the data set isn't in the folder.
    """
    if dataset == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits.target))
        images, labels = digits.data[order].astype(np.float32) / 16.0, digits.target[order]
        return Split(images[:1297], labels[:1297]), Split(images[1297:], labels[1297:])
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    if not data_dir or not (pathlib.Path(data_dir) / dataset).is_dir():
        raise FileNotFoundError(
            f"There is no prepared data set {dataset!r}. Pass the folder of tensorflow-datasets as "
            f"`--data-dir`, or set TFDS_DATA_DIR. Received: data_dir={data_dir!r}"
        )
    import tensorflow_datasets as tfds

    splits = tfds.load(
        dataset,
        split=["train", "test"],
        batch_size=-1,
        as_supervised=True,
        data_dir=data_dir,
        download=False,
    )
    train, test = (
        Split(images.astype(np.float32) / 255.0, labels) for images, labels in tfds.as_numpy(splits)
    )
    return train, test


def trained(
    name: str,
    dataset: str,
    seed: int,
    cache: str | os.PathLike,
    *,
    data_dir: str | None = None,
    quick: bool = False,
) -> keras.Model:
    """Load a trained network from the cache, or train it (Adam, 1e-3, cosine) and save it there.

    Args:
        name: A key of `NETS`.
        dataset: A data set of `DATASETS[name]`.
        seed: Seed of the initial weights and of the order of the images.
        cache: Folder of the trained models; it is created if it doesn't exist.
        data_dir: Folder of the prepared data sets, as in `load_data`.
        quick: Whether to train for one epoch on 2,000 images.

    Raises:
        ValueError: If the network isn't made for the data set.
        FileNotFoundError: If the data set isn't in its folder.
    """
    if dataset not in DATASETS.get(name, ()):
        raise ValueError(
            f"There is no such network. Use a pair of `DATASETS`: {DATASETS}. "
            f"Received: name={name!r}, dataset={dataset!r}"
        )
    file = pathlib.Path(cache) / f"{name}-{dataset}-{seed}{'-quick' if quick else ''}.keras"
    if file.exists():
        return keras.saving.load_model(file)
    net = NETS[name]
    train, _ = load_data(dataset, data_dir)
    images, epochs = (QUICK_IMAGES, 1) if quick else (len(train.y), net.epochs)
    keras.utils.set_random_seed(seed)
    model = net.build()
    train = train.shaped_for(model)
    steps = epochs * -(-min(images, len(train.y)) // net.batch_size)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    x, y = train.x[:images], train.y[:images]
    model.fit(x, y, batch_size=net.batch_size, epochs=epochs, verbose=0)
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save(file)
    return model


def accuracy(model: keras.Model, split: Split) -> float:
    """Return the share of the images that the model classifies correctly, in percent."""
    outputs = model.predict(split.shaped_for(model).x, batch_size=1000, verbose=0)
    return 100.0 * float(np.mean(np.argmax(outputs, axis=1) == split.y))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every script that uses these networks."""
    parser.add_argument("--data-dir", help="TFDS folder; default: the variable TFDS_DATA_DIR")
    parser.add_argument("--cache", default="trained", help="folder of the trained models")
    parser.add_argument("--quick", action="store_true", help="train for one epoch on 2,000 images")
