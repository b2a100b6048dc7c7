"""Train a small network on scikit-learn's digits, prune it and train it further.

`python examples/quickstart.py`. Needs `pip install "keras_dfprune[demo]"`.
"""

import argparse

import keras
import numpy as np

import keras_dfprune as dfprune
from keras_dfprune.cli.demo import load_digits, train_digits


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-params", type=float, default=0.2, help="default: 0.2")
    parser.add_argument("--quick", action="store_true", help="train for two epochs only")
    options = parser.parse_args(argv)

    train, test = load_digits()
    model = train_digits(train, epochs=2 if options.quick else 30)
    _report("trained", model, test)

    # The plan shows what will be removed from each layer, how much the outputs change, and which
    # layers are refused and why. Unlabelled rows tell the method what the inputs look like.
    plan = dfprune.plan(model, max_params=options.max_params, data=train[0][:200])
    print(plan)

    # `dfprune.apply(model, ...)` does both steps at once. `model` is not changed.
    pruned = plan.apply(model)
    _report("pruned", pruned, test)

    # The result is a plain Keras model, compiled like `model`, with the optimizer's state.
    pruned.fit(*train, epochs=1 if options.quick else 5, batch_size=32, verbose=0)
    _report("trained on", pruned, test)


def _report(name: str, model: keras.Model, test: tuple[np.ndarray, np.ndarray]) -> None:
    accuracy = model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]
    print(f"{name}: accuracy {accuracy:.4f}, {model.count_params():,} parameters")


if __name__ == "__main__":
    main()
