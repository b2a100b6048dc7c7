"""Prune a model, export it as `.tflite` files, and print their sizes and accuracies.

`python examples/export_tflite.py`. The files are float32 and quantized in three ways. Needs
`pip install "keras_dfprune[demo,litert]"`.
"""

import argparse
import pathlib

import numpy as np
from ai_edge_litert.interpreter import Interpreter

import keras_dfprune as dfprune
from keras_dfprune.cli.demo import load_digits, train_digits


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=pathlib.Path, default=".", help="default: the current folder"
    )
    parser.add_argument("--quick", action="store_true", help="train for two epochs only")
    options = parser.parse_args(argv)

    train, test = load_digits()
    model = train_digits(train, epochs=2 if options.quick else 30)
    pruned = dfprune.apply(model, sparsity=0.5)
    for name, net in (("trained", model), ("pruned", pruned)):
        for quantize in (None, "dynamic", "float16", "int8"):
            path = options.output / f"{name}-{quantize or 'float32'}.tflite"
            # Only int8 needs data: it measures the ranges of the activations.
            rows = train[0][:200] if quantize == "int8" else None
            result = dfprune.export(net, path, quantize=quantize, representative_data=rows)
            print(f"{path}: {result.bytes:,} bytes, accuracy {accuracy(path, *test):.4f}")


def accuracy(path: pathlib.Path, x: np.ndarray, y: np.ndarray) -> float:
    """Return the accuracy of a `.tflite` file, which runs on one image at a time."""
    runner = Interpreter(str(path)).get_signature_runner()
    (name,) = runner.get_input_details()
    logits = [next(iter(runner(**{name: row[None]}).values()))[0] for row in x]
    return float(np.mean(np.argmax(logits, axis=1) == y))


if __name__ == "__main__":
    main()
