"""Names of networks and data sets into trained models and their images, kept on disk.

LeNet-5 in Caffe's form (LeCun et al. 1998), LeNet-300-100, the same with BatchNormalization or
gelu, a small ResNet, and a perceptron on scikit-learn's digits: what the benchmarks and the
paper's figures prune.
"""

import argparse
import dataclasses
import os
import pathlib
from collections.abc import Callable

import keras
import numpy as np

layers = keras.layers
# Images in quick mode, which trains for one epoch: to try the code, not to measure anything.
QUICK_IMAGES = 2000
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Net:
    """How a network is built and trained.

    Attributes:
        build: Makes the untrained model; its outputs are logits.
        epochs: Passes over the training images.
        batch_size: Images in a step.
    """

    build: Callable[[], keras.Model]
    epochs: int
    batch_size: int = 128


def lenet5() -> keras.Sequential:
    """Caffe's LeNet, 20-50-500-10: its convolutions have no activation. 431,080 parameters."""
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
    """Dense layers `fc1`, `fc2`, ... and a dense head of logits, `out`."""
    hidden = [
        layers.Dense(width, activation=activation, name=f"fc{number}")
        for number, width in enumerate(widths, 1)
    ]
    head = layers.Dense(CLASSES, name="out")
    return keras.Sequential([keras.Input((inputs,)), *hidden, head])


def batchnorm() -> keras.Sequential:
    """LeNet-300-100 with a BatchNormalization before each activation."""
    hidden = []
    for number, width in enumerate((300, 100), 1):
        hidden += [
            layers.Dense(width, name=f"fc{number}"),
            layers.BatchNormalization(name=f"b{number}"),
            layers.ReLU(name=f"relu{number}"),
        ]
    return keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(CLASSES, name="out")])


def resnet() -> keras.Model:
    """Six residual blocks at 16, 32 and 64 filters with BatchNormalization. 176,090 parameters."""
    inputs = keras.Input((28, 28, 1))
    hidden = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="stem")(inputs)
    hidden = layers.ReLU()(layers.BatchNormalization()(hidden))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(2):
            strides = 2 if stage and not block else 1
            hidden = _residual_block(hidden, filters, strides, f"s{stage}b{block}")
    hidden = layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(inputs, layers.Dense(CLASSES, name="out")(hidden))


def _residual_block(hidden, filters: int, strides: int, name: str):
    def normalized(tensor, size, strides, suffix):
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
    """AlexNet's eight layers for 28x28 pixels: 1/16 of its dense widths, 1/8 to 1/4 of its filters.

    As there, the flattened image is 2.25 times as wide as fc6 and fc7. 282,050 parameters.
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
    """Images in [0, 1], float32, and their labels, int64."""

    x: np.ndarray
    y: np.ndarray

    def shaped_for(self, model: keras.Model) -> "Split":
        """The same images in the input shape of a model."""
        return Split(self.x.reshape(-1, *model.input_shape[1:]), self.y)


def load_data(dataset: str, data_dir: str | None = None) -> tuple[Split, Split]:
    """Training and test images; nothing is ever downloaded.

    Args:
        dataset: `"mnist"` or `"fashion_mnist"`, read through tensorflow-datasets, or `"digits"`,
            which comes with scikit-learn (1,297 to train, 500 to test).
        data_dir: Folder of the prepared data sets; None for the variable TFDS_DATA_DIR.

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
            f"No prepared data set {dataset!r}. Give the folder of tensorflow-datasets with "
            f"`--data-dir` or TFDS_DATA_DIR. Received: data_dir={data_dir!r}"
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
    """A trained network, from the cache or trained now (Adam, 1e-3, cosine) and put there.

    Args:
        name: One of `NETS`.
        dataset: One of `DATASETS[name]`.
        seed: Of the initial weights and the order of the images.
        cache: Folder of the trained models; made where it doesn't exist.
        data_dir: As in `load_data`.
        quick: One epoch on 2,000 images.

    Raises:
        ValueError: If the network isn't made for the data set.
        FileNotFoundError: If the data set isn't there.
    """
    if dataset not in DATASETS.get(name, ()):
        raise ValueError(f"No such network. Received: name={name!r}, dataset={dataset!r}")
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
    """Share of the images that the model's largest output names rightly, in percent."""
    outputs = model.predict(split.shaped_for(model).x, batch_size=1000, verbose=0)
    return 100.0 * float(np.mean(np.argmax(outputs, axis=1) == split.y))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that everything which uses these networks shares."""
    parser.add_argument("--data-dir", help="TFDS folder (default: the variable TFDS_DATA_DIR)")
    parser.add_argument("--cache", default="trained", help="folder of the trained models")
    parser.add_argument("--quick", action="store_true", help="1 epoch, 2,000 images: a trial")
