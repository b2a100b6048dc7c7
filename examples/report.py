"""Write a report of a plan that a colleague can read in a browser: one file, without network.

`python examples/report.py`. Needs `pip install "keras_dfprune[demo,report]"`.
"""

import argparse
import json
import pathlib

import keras_dfprune as dfprune
from keras_dfprune.cli.demo import load_digits, train_digits


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="report.html", help="default: report.html")
    parser.add_argument("--max-params", type=float, default=0.5, help="default: 0.5")
    parser.add_argument("--quick", action="store_true", help="train for two epochs only")
    options = parser.parse_args(argv)

    train, _ = load_digits()
    model = train_digits(train, epochs=2 if options.quick else 30)
    plan = dfprune.plan(model, max_params=options.max_params, data=train[0][:200])

    path = pathlib.Path(options.output)
    sizes = [dfprune.profile(each, latency=True) for each in (model, plan.apply(model))]
    plan.report(path, profiles=tuple(sizes))
    # The same in plain values, for programs: a dashboard, a table of many plans.
    values = path.with_suffix(".json")
    values.write_text(json.dumps(plan.to_dict()), encoding="utf-8")
    print(f"{path}: {path.stat().st_size:,} bytes. Open it in a browser.")
    print(f"{values}: {values.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
