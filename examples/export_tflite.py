"""Prunes and writes `.tflite` files, float32 and quantized, with their size and accuracy.

Needs `pip install "keras_dfprune[demo,litert]"`.
"""

import argparse
import pathlib

import numpy as np
from ai_edge_litert.interpreter import Interpreter

import keras_dfprune as dfprune
from keras_dfprune.cli.demo import load_digits, train_digits


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=".", help="folder; default: here")
    parser.add_argument("--quick", action="store_true", help="a shorter, worse training")
    options = parser.parse_args(argv)

    train, test = load_digits()
    model = train_digits(train, epochs=2 if options.quick else 30)
    pruned = dfprune.apply(model, sparsity=0.5)
    for name, net in (("trained", model), ("pruned", pruned)):
        for quantize in (None, "dynamic", "float16", "int8"):
            path = options.output / f"{name}-{quantize or 'float32'}.tflite"
            # Only int8 needs data: the ranges of the activations are read from it.
            rows = train[0][:200] if quantize == "int8" else None
            result = dfprune.export(net, path, quantize=quantize, representative_data=rows)
            print(f"{path}: {result.bytes:,} bytes, accuracy {accuracy(path, *test):.4f}")


def accuracy(path, x, y):
    """Runs a .tflite file on one image after the other."""
    runner = Interpreter(str(path)).get_signature_runner()
    (name,) = runner.get_input_details()
    logits = [next(iter(runner(**{name: row[None]}).values()))[0] for row in x]
    return float(np.mean(np.argmax(logits, axis=1) == y))


if __name__ == "__main__":
    main()
