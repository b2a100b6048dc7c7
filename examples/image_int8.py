"""Prune an image classifier with a backbone and augmentation, and write it as an int8 file.

`python examples/image_int8.py`. The images are the digits of scikit-learn, 8 x 8 points. Needs
`pip install "keras_dfprune[demo,litert]"`.
"""

import argparse
import pathlib

import keras

import keras_dfprune as dfprune
from keras_dfprune.cli.demo import load_digits

layers = keras.layers


def build_backbone() -> keras.Model:
    """Build a small convolutional network, in place of one of `keras.applications`."""
    inputs = keras.Input((16, 16, 1))
    x = inputs
    for number, filters in enumerate((32, 64, 128), 1):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        x = layers.MaxPooling2D(name=f"pool{number}")(x)
    return keras.Model(inputs, x, name="backbone")


def build_classifier() -> keras.Model:
    """Build augmentation, backbone and head."""
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.RandomTranslation(0.1, 0.1, name="shift")(inputs)
    x = layers.RandomRotation(0.03, name="turn")(x)
    x = layers.Resizing(16, 16, name="resize")(x)
    x = build_backbone()(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.2, name="drop")(x)
    outputs = layers.Dense(10, "softmax", name="digit")(x)
    return keras.Model(inputs, outputs, name="classifier")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=".", help="default: this folder")
    parser.add_argument("--quick", action="store_true", help="300 images, two epochs")
    options = parser.parse_args(argv)
    epochs, steps = (2, 20) if options.quick else (60, 500)

    (x, y), (x_test, y_test) = load_digits()
    if options.quick:
        x, y, x_test, y_test = x[:300], y[:300], x_test[:100], y_test[:100]
    x, x_test = x.reshape(-1, 8, 8, 1), x_test.reshape(-1, 8, 8, 1)
    keras.utils.set_random_seed(0)
    model = build_classifier()
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * -(-len(x) // 64))
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(x, y, epochs=epochs, batch_size=64, verbose=0)

    plan = dfprune.plan(model, max_params=0.3, data=x, refine_steps=steps)
    print(plan)
    pruned = plan.apply(model)

    for name, network in (("trained", model), ("pruned", pruned)):
        score = network.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]
        print(f"{name}: accuracy {score:.4f}, {network.count_params():,} parameters")
        path = options.output / f"{name}.tflite"
        result = dfprune.export(
            network,
            path,
            quantize="int8",
            representative_data=x[:300],
            io_dtype="int8",
            batch_size=1,
        )
        print(f"{name}.tflite: {result.bytes:,} bytes")

    before, after = (options.output / f"{name}.tflite" for name in ("trained", "pruned"))
    comparison = dfprune.compare(model, before, (x_test, y_test))
    print(f"trained.tflite: accuracy {comparison.metrics[0].after:.4f}")
    comparison = dfprune.compare(model, after, (x_test, y_test))
    print(f"pruned.tflite: accuracy {comparison.metrics[0].after:.4f}")
    for path in (before, after):
        profile = dfprune.profile(path)
        print(f"{path.name}: {profile.latency.median:.3f} ms for one image")


if __name__ == "__main__":
    main()
