"""Halve a network for tabular data, and measure what that costs.

`python examples/tabular.py`. The data are generated: twenty columns, of which five matter. Needs
`pip install "keras_dfprune[demo]"`.
"""

import argparse

import keras
from sklearn.datasets import make_friedman1

import keras_dfprune as dfprune


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="pruned.keras", help="default: pruned.keras")
    parser.add_argument("--quick", action="store_true", help="train for two epochs only")
    options = parser.parse_args(argv)
    epochs = 2 if options.quick else 60

    x, y = make_friedman1(n_samples=6000, n_features=20, noise=1.0, random_state=0)
    x, y = x.astype("float32"), y.astype("float32")
    train, test = (x[:4000], y[:4000]), (x[4000:], y[4000:])

    keras.utils.set_random_seed(0)
    scale = keras.layers.Normalization(name="scale")
    scale.adapt(train[0])
    model = keras.Sequential(
        [
            keras.Input((20,), name="columns"),
            scale,
            keras.layers.Dense(128, "relu", name="fc1"),
            keras.layers.Dense(128, "relu", name="fc2"),
            keras.layers.Dense(1, name="target"),
        ],
        name="tabular",
    )
    model.compile("adam", "mse", metrics=[keras.metrics.R2Score(name="r2")])
    model.fit(*train, epochs=epochs, batch_size=64, verbose=0)

    def r2(network: keras.Model) -> float:
        return network.evaluate(*test, verbose=0, return_dict=True)["r2"]

    print(f"trained: R2 {r2(model):.4f}, {model.count_params():,} parameters")

    plan = dfprune.plan(model, max_params=0.5)
    print(plan)
    pruned = plan.apply(model)
    print(f"half, no data: R2 {r2(pruned):.4f}, {pruned.count_params():,} parameters")

    rows = train[0][:200]  # without the targets
    pruned = dfprune.apply(model, max_params=0.5, data=rows)
    print(f"half, 200 rows: R2 {r2(pruned):.4f}, {pruned.count_params():,} parameters")

    small = dfprune.apply(model, max_params=0.1, data=rows)
    print(f"a tenth, 200 rows: R2 {r2(small):.4f}, {small.count_params():,} parameters")
    steps = 50 if options.quick else 1000
    small = dfprune.apply(model, max_params=0.1, data=train[0], refine_steps=steps)
    print(f"a tenth, all rows, recovery: R2 {r2(small):.4f}, {small.count_params():,} parameters")

    print(dfprune.profile(pruned))
    print(dfprune.compare(model, pruned, test))
    result = dfprune.export(pruned, options.output)
    print(f"written: {result.bytes:,} bytes")


if __name__ == "__main__":
    main()
