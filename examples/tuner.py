"""Choose learning rate, dropout and size together with Keras Tuner, and cross-validate the choice.

`python examples/tuner.py`. Needs `pip install "keras_dfprune[demo,tuner]"`.
"""

import argparse
import tempfile

import keras
import keras_tuner
import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

import keras_dfprune as dfprune
from keras_dfprune.cli.demo import load_digits

Split = tuple[np.ndarray, np.ndarray]  # images and labels


def build(hp: keras_tuner.HyperParameters) -> keras.Model:
    layers = keras.layers
    rate = hp.Float("rate", 3e-4, 1e-2, sampling="log")
    dropout = hp.Float("dropout", 0.0, 0.6, step=0.2)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(256, "relu", name="fc1"),
            layers.Dropout(dropout),
            layers.Dense(256, "relu", name="fc2"),
            layers.Dense(10, "softmax", name="digit"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


class TrainThenPrune(keras_tuner.BayesianOptimization):
    """Tuner whose networks are trained wide, made narrow, and scored narrow."""

    def run_trial(
        self,
        trial: keras_tuner.engine.trial.Trial,
        train: Split,
        seen: Split,
        epochs: int,
        verbose: int = 0,
    ) -> dict[str, float]:
        hp = trial.hyperparameters
        model = build(hp)
        model.fit(*train, epochs=epochs, batch_size=64, verbose=0)
        keep = hp.Float("keep", 0.05, 0.5, sampling="log")
        narrow = dfprune.apply(model, max_params=keep, data=train[0])
        accuracy = narrow.evaluate(*seen, verbose=0)[1]
        # Half of the parameters may cost half a point of accuracy.
        return {"score": accuracy - 0.005 * float(np.log2(keep))}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=12, help="default: 12")
    parser.add_argument("--quick", action="store_true", help="short trainings, few trials")
    options = parser.parse_args(argv)
    epochs, trials, folds = (2, 2, 2) if options.quick else (15, options.trials, 5)

    (x, y), test = load_digits()
    images, seen_images, labels, seen_labels = train_test_split(
        x, y, test_size=0.3, random_state=0, stratify=y
    )
    with tempfile.TemporaryDirectory() as folder:
        tuner = TrainThenPrune(
            build,
            objective=keras_tuner.Objective("score", "max"),
            max_trials=trials,
            seed=0,
            directory=folder,
        )
        tuner.search((images, labels), (seen_images, seen_labels), epochs, verbose=0)
    best = tuner.get_best_hyperparameters()[0]
    keep = best.get("keep")
    print(
        f"chosen: rate {best.get('rate'):.1e}, dropout {best.get('dropout'):.1f}, "
        f"{keep:.0%} of the parameters"
    )

    before, after = [], []
    splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
    for fold, (fit, left_out) in enumerate(splitter.split(x, y)):
        keras.utils.set_random_seed(fold)
        model = build(best)
        model.fit(x[fit], y[fit], epochs=epochs, batch_size=64, verbose=0)
        narrow = dfprune.apply(model, max_params=keep, data=x[fit])
        before.append(model.evaluate(x[left_out], y[left_out], verbose=0)[1])
        after.append(narrow.evaluate(x[left_out], y[left_out], verbose=0)[1])
        print(f"fold {fold + 1}: accuracy {before[-1]:.3f} -> {after[-1]:.3f}")
    change = np.array(after) - np.array(before)
    print(f"change over {folds} folds: {change.mean():+.3f}, deviation {change.std(ddof=1):.3f}")
    print(f"test images, last fold's network: {narrow.evaluate(*test, verbose=0)[1]:.3f}")


if __name__ == "__main__":
    main()
