"""A plan into a table to read: units, parameters, predicted errors, refusals and their reasons."""


def render(plan) -> str:
    """The text of `print(plan)`.

    Args:
        plan: A `PruningPlan`.

    Returns:
        Lines without a newline at the end.
    """
    before, after = plan.parameters
    lines = [f"Pruning plan for '{plan.model_name}' ({plan.method['name']})", ""]
    if plan.groups:
        lines += _table([_HEADINGS, *[_row(group) for group in plan.groups]])
    else:
        lines.append("Nothing to prune.")
    share = 100 * (before - after) / before if before else 0.0
    lines += ["", f"Parameters: {before:,} -> {after:,} ({share:.1f} % fewer)"]
    notes = [f"{group.layer}: {group.note}" for group in plan.groups if group.note]
    notes += list(plan.notes)
    if notes:
        lines += ["", "Notes", *[f"  {note}" for note in notes]]
    if plan.refusals:
        lines += ["", "Left whole", *[f"  {r.layer}: {r.reason}" for r in plan.refusals]]
    return "\n".join(lines)


_HEADINGS = ("Layer", "Units", "Removed", "Parameters", "Predicted error")


def _row(group) -> tuple[str, ...]:
    name = group.layer if len(group.layers) == 1 else f"{group.layer} (+{len(group.layers) - 1})"
    kept, removed = len(group.kept), len(group.removed)
    error = "-" if group.predicted_error is None else f"{100 * group.predicted_error:.2g} %"
    before, after = group.parameters
    return (
        name,
        f"{group.units:,} -> {kept:,}",
        f"{100 * removed / group.units:.1f} %",
        f"{before:,} -> {after:,}",
        error,
    )


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    if all(row[-1] == "-" for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * len(lines[0]))
    return lines
