"""Build AlexNet in Caffe's form (Krizhevsky et al. 2012) and read its weights and ImageNet."""

import pathlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
SIZE = 227
FEATURES, DENSE, CLASSES = 9216, 4096, 1000
# Parameters of conv1 to conv5. Each filter of conv2, conv4 and conv5 reads half of the channels.
CONVOLUTIONS = 34_944 + 307_456 + 885_120 + 663_936 + 442_624
_NAMES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
_MEAN_BGR = (104.0, 117.0, 123.0)  # of ImageNet; Caffe's models subtract it


def head(divide: int = 1) -> keras.Sequential:
    """Build fc6, fc7 and fc8 alone, with random weights (Glorot).

    Args:
        divide: Divisor of all widths, for a small run.
    """
    return keras.Sequential(
        [
            keras.Input((FEATURES // divide,)),
            layers.Dense(DENSE // divide, activation="relu", name="fc6"),
            layers.Dense(DENSE // divide, activation="relu", name="fc7"),
            layers.Dense(CLASSES, name="fc8"),
        ],
        name="alexnet_head",
    )


def alexnet(divide: int = 1) -> keras.Sequential:
    """Build the whole network on BGR images `(227, 227, 3)` less the mean; 60,965,224 parameters.

    Args:
        divide: Divisor of the filters and of the units of fc6 and fc7, for a small run; 1 to 16.
    """

    def conv(number: int, filters: int, size: int, **options: object) -> keras.layers.Layer:
        name = f"conv{number}"
        return layers.Conv2D(filters // divide, size, activation="relu", name=name, **options)

    def dense(number: int) -> keras.layers.Layer:
        return layers.Dense(DENSE // divide, activation="relu", name=f"fc{number}")

    # Local response normalisation over 5 channels. alpha is 2e-5, since Caffe divides its alpha of
    # 1e-4 by the number of channels.
    def norm(number: int) -> keras.layers.Layer:
        return layers.Lambda(_normalise, name=f"norm{number}")

    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            conv(1, 96, 11, strides=4),
            norm(1),
            layers.MaxPooling2D(3, 2),
            conv(2, 256, 5, padding="same", groups=2),
            norm(2),
            layers.MaxPooling2D(3, 2),
            conv(3, 384, 3, padding="same"),
            conv(4, 384, 3, padding="same", groups=2),
            conv(5, 256, 3, padding="same", groups=2),
            layers.MaxPooling2D(3, 2),
            layers.Flatten(),
            dense(6),
            layers.Dropout(0.5),
            dense(7),
            layers.Dropout(0.5),
            layers.Dense(CLASSES, name="fc8"),
        ],
        name="alexnet",
    )


def _normalise(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.local_response_normalization(x, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75)


def load_weights(model: keras.Model, path: pathlib.Path) -> None:
    """Load `conv1/kernel`, `conv1/bias`, ..., `fc8/bias` from an `.npz` file into `alexnet()`.

    Kernels have the shapes of Keras, `(height, width, channels, filters)` and `(inputs, units)`.
    The inputs of fc6 are in the order height, width, channel.

    Raises:
        ValueError: If an array is missing or has another shape.
    """
    with np.load(path, allow_pickle=False) as arrays:
        missing = {f"{n}/{part}" for n in _NAMES for part in ("kernel", "bias")} - set(arrays)
        if missing:
            raise ValueError(
                f"'{path}' lacks {', '.join(sorted(missing))}. Received the arrays {list(arrays)}"
            )
        for name in _NAMES:
            model.get_layer(name).set_weights([arrays[f"{name}/kernel"], arrays[f"{name}/bias"]])


def imagenet(folder: str, images: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches of validation images, prepared as in Caffe: 256 x 256, centre crop, BGR.

    Args:
        folder: TFDS folder with `imagenet2012`; nothing is downloaded.
        images: Number of images; default: all 50,000.
    """
    import tensorflow_datasets as tfds

    data = tfds.load(
        "imagenet2012", split="validation", data_dir=folder, download=False, as_supervised=True
    )

    def prepare(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.image.resize(image, (256, 256))
        image = tf.image.resize_with_crop_or_pad(image, SIZE, SIZE)
        return image[..., ::-1] - tf.constant(_MEAN_BGR), label

    data = data if images is None else data.take(images)
    return data.map(prepare).batch(50).prefetch(2).as_numpy_iterator()


def top_errors(
    models: list[keras.Model], batches: Iterator[tuple[np.ndarray, np.ndarray]]
) -> list[tuple[float, float]]:
    """Measure top-1 and top-5 error of each model, in percent, in one pass over the images."""
    wrong, count = np.zeros((len(models), 2)), 0
    for x, y in batches:
        count += len(y)
        for k, model in enumerate(models):
            best = np.argsort(model.predict_on_batch(x), axis=1)[:, -5:]
            wrong[k] += [np.sum(best[:, -1] != y), np.sum(~np.any(best == y[:, None], axis=1))]
    return [tuple(row) for row in 100.0 * wrong / count]
