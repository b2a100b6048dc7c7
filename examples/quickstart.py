"""Trains a small net on scikit-learn's digits, prunes it, and goes on training.

Needs `pip install "keras_dfprune[demo]"`.
"""

import argparse

import keras_dfprune as dfprune
from keras_dfprune.cli.demo import load_digits, train_digits


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sparsity", type=float, default=0.7, help="default: 0.7")
    parser.add_argument("--quick", action="store_true", help="a shorter, worse training")
    options = parser.parse_args(argv)

    train, test = load_digits()
    model = train_digits(train, epochs=2 if options.quick else 30)
    _report("trained", model, test)

    # Look before you cut: which layers, how many units, what is left whole and why.
    plan = dfprune.plan(model, sparsity=options.sparsity)
    print(plan)

    # `dfprune.apply(model, sparsity=...)` does both steps at once. `model` stays as it is.
    pruned = plan.apply(model)
    _report("pruned", pruned, test)

    # It is an ordinary Keras model, compiled as before, with the optimizer's state carried over.
    pruned.fit(*train, epochs=1 if options.quick else 5, batch_size=32, verbose=0)
    _report("trained on", pruned, test)


def _report(name, model, test):
    accuracy = model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]
    print(f"{name}: accuracy {accuracy:.4f}, {model.count_params():,} parameters")


if __name__ == "__main__":
    main()
