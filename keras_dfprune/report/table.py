"""Print a plan: a table of the units, what the cut changes, and refusals with their reasons."""

import math
from collections.abc import Iterable, Mapping, Sequence

from keras_dfprune.report.readable_plan import (
    ReadableChange,
    ReadableGroup,
    ReadablePlan,
    ReadableRefinement,
)

_HEADINGS = ("Layer", "Units", "Removed", "Parameters", "Predicted error")


def render(plan: ReadablePlan) -> str:
    """Return the text of `print(plan)`.

    Args:
        plan: A `PruningPlan`.

    Returns:
        Lines without a newline at the end.
    """
    lines = [f"Pruning plan for '{plan.model_name}' ({plan.method['name']})", ""]
    lines += align(group_rows(plan.groups)) if plan.groups else ["Nothing to prune."]
    lines += ["", *size_lines(plan)]
    for heading, sentences in sections(plan):
        lines += ["", heading, *[f"  {sentence}" for sentence in sentences]]
    return "\n".join(lines)


def size_lines(plan: ReadablePlan) -> list[str]:
    """Return one line for each size of the model, before and after.

    Args:
        plan: A `PruningPlan`.
    """
    lines = [_fewer("Parameters", *plan.parameters)]
    if plan.multiply_adds is not None:
        lines.append(_fewer("Multiply-adds of one row", *plan.multiply_adds))
    return lines


def sections(plan: ReadablePlan) -> list[tuple[str, list[str]]]:
    """Return the headings below the table, each with its sentences; those without any left out.

    Args:
        plan: A `PruningPlan`.
    """
    when = " before recovery" if plan.refine_steps else ""
    notes = by_reason((group.layer, group.note) for group in plan.groups if group.note)
    everything = [
        (
            f"Measured change{when} (squared, over the variance)",
            [_measured_sentence(output) for output in plan.measured],
        ),
        ("Notes", [*notes, *plan.notes]),
        ("Left whole", by_reason((r.layer, r.reason) for r in plan.refusals)),
        ("Refined", refined_sentences(plan.refined)),
    ]
    return [(heading, sentences) for heading, sentences in everything if sentences]


def _fewer(what: str, before: int, after: int) -> str:
    return f"{what}: {before:,} -> {after:,} ({fewer(before, after)} fewer)"


def fewer(before: float, after: float) -> str:
    """Return by how many percent the second number is smaller than the first.

    Args:
        before: The first number.
        after: The second number.
    """
    return f"{100 * (before - after) / before if before else 0.0:.1f} %"


def by_reason(layers: Iterable[tuple[str, str]]) -> list[str]:
    """Return one sentence for each reason: the layers that it holds for, then the reason.

    Args:
        layers: Pairs of a layer and a reason.
    """
    layers_of: dict[str, list[str]] = {}
    for layer, reason in layers:
        layers_of.setdefault(reason, []).append(layer)
    return [f"{', '.join(names)}: {reason}" for reason, names in layers_of.items()]


def refined_sentences(refined: Mapping[str, ReadableRefinement]) -> list[str]:
    """Describe for each chain of layers how close the refinement came to the original's outputs.

    Args:
        refined: Result of the refinement, by the first layer of each chain.
    """
    return [
        f"{layer}: squared difference from the original over its variance "
        f"{100 * reached.before:.2g} % -> {100 * reached.after:.2g} % (weights of step "
        f"{reached.step:,})"
        for layer, reached in refined.items()
    ]


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of a table, the first one to the left and the others to the right.

    Args:
        rows: The headings, then the other rows; all of the same length.

    Returns:
        One line for each row, with a rule below the headings.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def group_rows(groups: Sequence[ReadableGroup]) -> list[tuple[str, ...]]:
    """Return the cells of the table: the headings, then one row for each group.

    Args:
        groups: The groups of a plan.
    """
    rows = [_HEADINGS, *[_row(group) for group in groups]]
    if all(group.predicted_error is None for group in groups):
        rows = [row[:-1] for row in rows]
    return rows


def _row(group: ReadableGroup) -> tuple[str, ...]:
    further = len(group.layers) - 1
    before, after = group.parameters
    error = group.predicted_error
    return (
        f"{group.layer} (+{further})" if further else group.layer,
        f"{group.units:,} -> {len(group.kept):,}{'' if is_units(group) else f' {group.kind}'}",
        f"{100 * len(group.removed) / group.units:.1f} %",
        f"{before:,} -> {after:,}",
        "-" if error is None else percent(error),
    )


def is_units(group: ReadableGroup) -> bool:
    """Return whether a group is of units, and not of something that has to be named.

    Args:
        group: A group of a plan.
    """
    return group.kind == "units"


def _measured_sentence(output: ReadableChange) -> str:
    """Describe how much an output changes, and on what that was measured.

    Several kinds of draws give a range: the largest change first, because it is the one to go by.
    """
    spread = output.smallest < output.change
    sentence = f"{output.output}: {percent(output.change)}"
    if spread:
        sentence += f" to {percent(output.smallest)}"
    elif output.at_most > output.change:
        sentence += f" (hardly above {percent(output.at_most)})"
    if output.agreement is not None:
        least = "at least " if spread else ""
        sentence += f", largest entry the same in {least}{100 * output.agreement:.1f} % of rows"
    return f"{sentence} ({output.source})"


def percent(share: float) -> str:
    """Return a share in percent with two digits, and large ones without an exponent.

    Args:
        share: A fraction: 1.0 is 100 %.
    """
    if not math.isfinite(share):
        return "infinite"
    return f"{100 * share:,.0f} %" if share >= 1.0 else f"{100 * share:.2g} %"
