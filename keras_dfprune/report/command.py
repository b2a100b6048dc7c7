"""Write the Python code that makes a plan again."""

from collections.abc import Mapping
from typing import Any

from keras_dfprune.report.readable_plan import ReadablePlan

# Methods of this package, by the name that a plan gives them.
_CONSTRUCTORS = {"moments": "dfprune.Moments", "saliency": "dfprune.Saliency"}
_LONGEST = 200  # characters of a value; a covariance matrix would fill the page


def repeat_code(plan: ReadablePlan) -> str:
    """Return Python code that makes the plan again and applies it.

    The code of a plan that was loaded loads it: a plan's file doesn't hold the budget.

    Args:
        plan: A `PruningPlan`.

    Returns:
        Lines without a newline at the end. Names are Python literals, whatever is in them.
    """
    lines = [
        "import keras",
        "import keras_dfprune as dfprune",
        "",
        f"model = keras.saving.load_model({plan.model_name + '.keras'!r})",
    ]
    if plan.arguments is None:
        lines.append('plan = dfprune.PruningPlan.load("plan.npz")  # the file that was loaded here')
    else:
        lines += ["plan = dfprune.plan(", "    model,"]
        lines += [f"    {argument}" for argument in _arguments(plan, plan.arguments)]
        lines.append(")")
    needs_rows = plan.arguments is None and plan.used_data
    given = f"model, data=rows)  # {_rows_comment(plan)}" if needs_rows else "model)"
    return "\n".join([*lines, f"pruned = plan.apply({given}"])


def shown(value: Any) -> str:
    """Return a value as Python writes it, or three dots if that is long.

    Args:
        value: A plain value.
    """
    text = repr(value)
    return text if len(text) <= _LONGEST else "..."


def _arguments(plan: ReadablePlan, arguments: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in arguments.items():
        if name == "method":
            lines.append(_method(value))
            continue
        comment = "  # a long value, left out here" if shown(value) == "..." else ""
        lines.append(f"{name}={shown(value)},{comment}")
    if plan.used_data:
        lines.append(f"data=rows,  # {_rows_comment(plan)}")
    return lines


def _rows_comment(plan: ReadablePlan) -> str:
    return "your unlabelled rows" if plan.rows is None else plan.rows.source.replace("\n", " ")


def _method(method: Mapping[str, Any]) -> str:
    name = method["name"]
    if name not in _CONSTRUCTORS:
        return f"method=method,  # your own, with the name {name!r}"
    settings = {key: value for key, value in method.items() if key != "name"}
    if not settings:
        return f"method={name!r},"
    values = ", ".join(f"{key}={shown(value)}" for key, value in settings.items())
    comment = "  # a long value, left out here" if "=..." in values else ""
    return f"method={_CONSTRUCTORS[name]}({values}),{comment}"
