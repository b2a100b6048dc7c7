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

Made from the rules by `python -m benchmarks.coverage`, with Keras {keras.__version__}. Layers
whose units can be pruned come first. A plan gives the reason for each layer that it leaves whole.
[Why was my layer left whole?](why_whole.md) says what to do about it.
"""
# The sections of the page: the roles in each, its heading, and a sentence.
SECTIONS = {
    ("producer, consumer", "producer", "heads, consumer"): (
        "Pruned",
        "Units (neurons, filters, columns) of a **producer** are removed. A **consumer** takes "
        "over what removed units of the layer before did, in the rows of its kernel. Attention "
        "**heads** get fewer dimensions.",
    ),
    ("carrier",): (
        "Let units pass",
        "These layers may stand between a pruned layer and the layers that read it.",
    ),
    ("barrier",): ("Barriers", "Units that reach one of these layers are not pruned."),
}
COLLAPSED = "Barriers"


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
    return ("producer, consumer" if produces else "heads, consumer"), reason


def render() -> str:
    """Return the text of the file."""
    rows: dict[str, list[tuple[str, list[str], str]]] = {}
    for kind, names in layer_names().items():
        role, reason = role_and_reason(kind)
        rows.setdefault(role, []).append((kind.__name__, names, reason))
    return HEAD + "".join(
        _section(title, sentence, [(role, *row) for role in roles for row in sorted(rows[role])])
        for roles, (title, sentence) in SECTIONS.items()
    )


def _section(title: str, sentence: str, rows: list[tuple[str, str, list[str], str]]) -> str:
    """Return a section with a table; that of the barriers opens on a click."""
    lines = []
    for role, name, names, reason in rows:
        aliases = [alias for alias in names if alias != name]
        shown = f"`{name}`" + (f" ({', '.join(aliases)})" if aliases else "")
        lines.append(f"| {shown} | {role} | {reason} |")
    head = "| layer | role | how, or why not |\n|---|---|---|\n"
    table = head + "\n".join(lines)
    if title == COLLAPSED:
        summary = f"<summary>{len(rows)} layers</summary>"
        table = f'<details markdown="1">\n{summary}\n\n{table}\n\n</details>'
    return f"\n## {title}\n\n{sentence}\n\n{table}\n"


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
