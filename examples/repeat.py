"""Prune, train and repeat: a network of a twentieth of the parameters.

`python examples/repeat.py`. Needs `pip install "keras_dfprune[demo]"`.
"""

import argparse
import tempfile

import keras

import keras_dfprune as dfprune
from keras_dfprune.cli.demo import load_digits, train_digits


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--final", type=float, default=0.05, help="default: 0.05")
    parser.add_argument("--quick", action="store_true", help="train for two epochs only")
    options = parser.parse_args(argv)

    train, test = load_digits()
    model = train_digits(train, epochs=2 if options.quick else 30)

    def show(name: str, narrow: keras.Model) -> None:
        _, accuracy = narrow.evaluate(*test, verbose=0)
        print(f"{name}: accuracy {accuracy:.3f}, {narrow.count_params():,} parameters")

    show("trained", model)
    cut = dfprune.apply(model, max_params=options.final)
    show("one cut", cut)

    epochs, steps = (1, 2) if options.quick else (3, 4)
    cut.fit(*train, epochs=epochs * steps, verbose=0)
    show("one cut, then trained", cut)

    def train_again(narrow: keras.Model) -> None:
        narrow.fit(*train, epochs=epochs, verbose=0)
        show("round", narrow)

    with tempfile.TemporaryDirectory() as rounds:
        narrow = dfprune.prune_and_train(
            model, train_again, steps=steps, final=options.final, checkpoint=rounds
        )
    show("in rounds", narrow)

    recovered = dfprune.apply(
        model,
        max_params=options.final,
        data=train[0],
        refine_steps=50 if options.quick else 600,
    )
    show("one cut, recovery without labels", recovered)


if __name__ == "__main__":
    main()
