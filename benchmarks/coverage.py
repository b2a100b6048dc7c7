"""Write `docs/coverage.md`: what happens to units at every layer of `keras.layers`.

`python -m benchmarks.coverage` writes the file. With `--check` it compares the file instead.
"""

import argparse
import pathlib
from collections.abc import Sequence

import keras

from keras_dfprune import rules
from keras_dfprune.graph.parts import PART_TYPES
from keras_dfprune.rules import registry
from keras_dfprune.rules.barriers import clause

FILE = pathlib.Path(__file__).parent.parent / "docs" / "coverage.md"
HEAD = f"""# Every layer of Keras

Made from the rules by `python -m benchmarks.coverage`, with Keras {keras.__version__}.

- **producer**: its units (neurons, filters, columns) are pruned
- **consumer**: takes over what removed units did, in the rows of its kernel
- **carrier**: units pass it on their way from a producer to its consumers
- **barrier**: units that reach it are not pruned

| layer | role | how, or why not |
|---|---|---|
"""


def layer_names() -> dict[type, list[str]]:
    """Return the names of every layer class of `keras.layers`; base classes are left out."""
    names_of: dict[type, list[str]] = {}
    for name in sorted(dir(keras.layers)):
        kind = getattr(keras.layers, name)
        if isinstance(kind, type) and issubclass(kind, keras.Layer):
            names_of.setdefault(kind, []).append(name)
    for base in (keras.layers.Layer, keras.layers.Wrapper):
        del names_of[base]
    return names_of


def role_and_reason(kind: type) -> tuple[str, str]:
    """Return the role of a layer class and how it plays it, or why it doesn't."""
    parts = registry.RULES_OF_PARTS.get(kind)
    if parts is not None:
        names = " and ".join(f"`{part.__name__}`" for part in PART_TYPES[kind])
        return "producer, consumer", f"read as {names}, one after the other"
    rule = registry.RULE_OF_TYPE.get(kind)
    # The rule of activation layers covers Softmax, and always refuses it: it mixes units.
    if rule is None or kind is keras.layers.Softmax:
        reason = clause(kind).replace("and which", "and")
        return "barrier", f"{reason} it" if reason.endswith("no rule covers") else reason
    reason = " ".join(type(rule).__doc__.split("\n\n")[0].split()).rstrip(".")
    produces = isinstance(rule, rules.ProducerRule)
    if not isinstance(rule, rules.ConsumerRule):
        return "producer" if produces else "carrier", reason
    if produces:
        return "producer, consumer", reason
    return "consumer", f"{reason}; its own units are not pruned: it {rule.why_not_pruned}"


def render() -> str:
    """Return the text of the file."""
    order = ("producer, consumer", "producer", "consumer", "carrier", "barrier")
    rows = []
    for kind, names in layer_names().items():
        role, reason = role_and_reason(kind)
        rows.append((order.index(role), kind.__name__, names, reason))
    lines = []
    for role, name, names, reason in sorted(rows):
        aliases = [alias for alias in names if alias != name]
        shown = f"`{name}`" + (f" ({', '.join(aliases)})" if aliases else "")
        lines.append(f"| {shown} | {order[role]} | {reason} |")
    return HEAD + "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, or with `--check` compare it; return 1 if it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the file only")
    if parser.parse_args(argv).check:
        return int(FILE.read_text(encoding="utf-8") != render())
    FILE.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
