"""Find the smallest net for the digits that loses at most half a point of accuracy.

`python examples/search.py`. Needs `pip install "keras_dfprune[demo,plots]"`.
"""

import argparse

import numpy as np

import keras_dfprune as dfprune
from keras_dfprune.cli.demo import load_digits, train_digits


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", help="draw score against size into this file")
    parser.add_argument("--max-drop", type=float, default=0.005, help="default: 0.005")
    parser.add_argument("--quick", action="store_true", help="train for two epochs only")
    options = parser.parse_args(argv)

    train, test = load_digits()
    model = train_digits(train, epochs=2 if options.quick else 30)
    # The search sees one half of the test images; the accuracy is told for the other half.
    seen, unseen = ((test[0][part::2], test[1][part::2]) for part in (0, 1))

    def accuracy(narrow, rows=seen):
        return float(np.mean(narrow.predict(rows[0], verbose=0).argmax(axis=1) == rows[1]))

    steps = 5 if options.quick else 20
    result = dfprune.search(model, accuracy, max_drop=options.max_drop, steps=steps)
    print(result)
    before, after = accuracy(model, unseen), accuracy(result.model, unseen)
    print(f"\nOn images that the search did not see: {before:.3f} -> {after:.3f}")
    if options.plot:
        result.plot(options.plot)


if __name__ == "__main__":
    main()
