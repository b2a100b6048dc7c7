"""Prune a model at the end of `fit` with the callback `PostTrainPrune`.

`python examples/callback.py`. Needs `pip install "keras_dfprune[demo]"`.
"""

import argparse

import keras

import keras_dfprune as dfprune
from keras_dfprune.cli.demo import load_digits, train_digits


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="pruned.keras", help="default: pruned.keras")
    parser.add_argument("--quick", action="store_true", help="train for two epochs only")
    options = parser.parse_args(argv)

    train, test = load_digits()
    stop = keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    prune = dfprune.PostTrainPrune(
        sparsity=0.5, export_path=options.output, validation_data=test, verbose=1
    )
    # `prune` comes last, so that it gets the weights that `stop` restores.
    train_digits(train, epochs=2 if options.quick else 30, callbacks=[stop, prune])

    if prune.error is not None:
        raise SystemExit(f"Not pruned: {prune.error}")
    print(f"{options.output}: {prune.pruned_model.count_params():,} parameters")


if __name__ == "__main__":
    main()
