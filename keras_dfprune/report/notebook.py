"""Show a plan in a notebook: a short table in HTML."""

from collections.abc import Sequence
from html import escape

from keras_dfprune.report.readable_plan import ReadablePlan
from keras_dfprune.report.table import group_rows, sections, size_lines


def notebook_html(plan: ReadablePlan) -> str:
    """Return a plan as HTML: the table and the sizes of `print(plan)`, and the rest folded away.

    Args:
        plan: A `PruningPlan`.

    Returns:
        One `<div>`. All names and reasons are escaped.
    """
    title = f"Pruning plan for '{plan.model_name}' ({plan.method['name']})"
    table = _table(title, group_rows(plan.groups)) if plan.groups else f"<p>{escape(title)}</p>"
    sizes = "<br>".join(map(escape, size_lines(plan)))
    folded = "".join(
        f"<details><summary>{escape(heading)}</summary><ul>"
        + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
        + "</ul></details>"
        for heading, sentences in sections(plan)
    )
    return f"<div>{table}<p>{sizes}</p>{folded}</div>"


def _table(title: str, rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first row holds headings and whose first column holds names."""
    headings, *others = rows
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in headings)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in others
    )
    return (
        f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )
