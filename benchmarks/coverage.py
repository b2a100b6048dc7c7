"""The rules into `docs/coverage.md`: what becomes of units at every layer of `keras.layers`.

`python -m benchmarks.coverage` writes the file, `--check` says whether it is current.
"""

import argparse
import pathlib

import keras

from keras_dfprune import rules
from keras_dfprune.rules import registry
from keras_dfprune.rules.barriers import clause

FILE = pathlib.Path(__file__).parent.parent / "docs" / "coverage.md"
HEAD = f"""# Every layer of Keras

Made from the rules by `python -m benchmarks.coverage`, with Keras {keras.__version__}.

- **producer**: its units (neurons, filters, columns) are pruned
- **consumer**: takes over what removed units did, in the rows of its kernel
- **carrier**: units pass it on their way from a producer to its consumers
- **barrier**: what reaches it is left whole

| layer | role | how, or why not |
|---|---|---|
"""


def layer_names() -> dict[type, list[str]]:
    """Every layer class of `keras.layers` with its names, bases of other layers left out."""
    found: dict[type, list[str]] = {}
    for name in sorted(dir(keras.layers)):
        kind = getattr(keras.layers, name)
        if isinstance(kind, type) and issubclass(kind, keras.Layer):
            found.setdefault(kind, []).append(name)
    for base in (keras.layers.Layer, keras.layers.Wrapper):
        del found[base]
    return found


def describe(kind: type) -> tuple[str, str]:
    """Role and reason of a layer class."""
    rule = registry.RULE_OF_TYPE.get(kind)
    if (
        rule is None or kind is keras.layers.Softmax
    ):  # as an activation it is looked at, and refused
        reason = clause(kind).replace("and which", "and")
        return "barrier", f"{reason} it" if reason.endswith("no rule covers") else reason
    reason = " ".join(type(rule).__doc__.split("\n\n")[0].split()).rstrip(".")
    if not isinstance(rule, rules.UnitRule):
        return "carrier", reason
    if rule.whole:
        return "consumer", f"{reason}; its own units stay: it {rule.whole}"
    return "producer, consumer" if rule.consumes else "producer", reason


def render() -> str:
    """The whole file."""
    order = ("producer, consumer", "producer", "consumer", "carrier", "barrier")
    rows = []
    for kind, names in layer_names().items():
        role, reason = describe(kind)
        rows.append((order.index(role), kind.__name__, names, reason))
    lines = []
    for role, name, names, reason in sorted(rows):
        others = [other for other in names if other != name]
        shown = f"`{name}`" + (f" ({', '.join(others)})" if others else "")
        lines.append(f"| {shown} | {order[role]} | {reason} |")
    return HEAD + "\n".join(lines) + "\n"


def main(argv=None) -> int:
    """Writes the file, or with `--check` compares it; 1 if it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether it is current")
    if parser.parse_args(argv).check:
        return int(FILE.read_text(encoding="utf-8") != render())
    FILE.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
