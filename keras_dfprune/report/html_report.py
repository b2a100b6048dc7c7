"""Write a plan as one HTML file that needs no network: what was asked, what goes, what changes."""

import base64
import hashlib
import importlib.resources
import importlib.util
import os
import pathlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from keras_dfprune.report.command import repeat_code, shown
from keras_dfprune.report.curves import curve_costs
from keras_dfprune.report.profile_rows import check_pair, profile_rows
from keras_dfprune.report.readable_plan import Profiles, ReadableGroup, ReadablePlan
from keras_dfprune.report.staging import written
from keras_dfprune.report.svg import curve_svg, histogram_svg, trials_svg
from keras_dfprune.report.table import fewer, is_units, percent, refined_sentences
from keras_dfprune.report.trials_table import ReadableTrials, trial_rows
from keras_dfprune.report.weight_images import MOST_SHOWN, picture

_TEMPLATES = importlib.resources.files("keras_dfprune.report") / "templates"
_NO_UNIT = -1
# Removed units that are listed for a group. More are no help to a reader, and `to_dict` has them.
_MOST_LISTED = 2_000


def require_report() -> None:
    """Make sure that what a report needs is installed.

    Raises:
        ImportError: If it is not.
    """
    for name in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise ImportError(
                f"Reports need jinja2 and matplotlib, and {name} isn't installed. Install them "
                'with: pip install "keras_dfprune[report]"'
            )


def write_report(
    plan: ReadablePlan,
    path: str | os.PathLike[str],
    search: ReadableTrials | None = None,
    profiles: Profiles | None = None,
    images: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write the report of a plan to a file, whole or not at all.

    Args:
        plan: A `PruningPlan`.
        path: The file.
        search: The `SearchResult` that the plan comes from, or None.
        profiles: A `Profile` of the model before and one after the cut, or None.
        images: Weight-sets that can be shown, by group: `(units, height, width, 1 or 3)`.

    Raises:
        TypeError: If `profiles` isn't a pair.
        ImportError: If jinja2 or matplotlib is not installed.
        OSError: If the file can't be written.
    """
    require_report()
    if profiles is not None:
        check_pair(profiles)
    target = pathlib.Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"No such folder: {target.parent} (for {target}). Create it first.")
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder. Give a file, such as report.html.")
    text = render_report(plan, search, profiles, images or {})
    with written(target) as staged:
        staged.write_text(text, encoding="utf-8")


def render_report(
    plan: ReadablePlan,
    search: ReadableTrials | None = None,
    profiles: Profiles | None = None,
    images: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> str:
    """Return the HTML of a report.

    Every text of the plan is escaped. A content security policy keeps the page from fetching
    anything and from running any script but its own.

    Args:
        plan: A `PruningPlan`.
        search: The `SearchResult` that the plan comes from, or None.
        profiles: A `Profile` of the model before and one after the cut, or None.
        images: As in `write_report`.
    """
    import jinja2
    from markupsafe import Markup

    script = _read("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    return environment.from_string(_read("report.html")).render(
        plan=plan,
        style=Markup(_read("report.css")),
        script=Markup(script),
        script_digest=digest,
        asked=_asked(plan, search is not None),
        sizes=_sizes(plan) + profile_rows(profiles),
        groups=[
            {**_group(group, number), "pictures": _pictures(group, images.get(group.layer))}
            for number, group in enumerate(plan.groups)
        ],
        no_change=_why_nothing_is_measured(plan),
        refined=refined_sentences(plan.refined),
        code=repeat_code(plan),
        search=None if search is None else _search(search),
    )


def _search(result: ReadableTrials) -> dict[str, Any]:
    """Return what the page shows of a search."""
    # What fits on a telephone; `print(result)` has the multiply-adds and the seconds, too.
    heading, *rows = [row[:3] + row[4:6] for row in trial_rows(result)]
    return {
        "result": result,
        "heading": heading,
        "rows": rows,
        "drawing": _markup(trials_svg(result)) if result.trials else None,
    }


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _asked(plan: ReadablePlan, searched: bool) -> list[tuple[str, str]]:
    """Return what was asked: pairs of a name and a value."""
    rows = [("Method", str(plan.method["name"]))]
    settings = [f"{key}={shown(value)}" for key, value in plan.method.items() if key != "name"]
    if settings:
        rows.append(("Settings", ", ".join(settings)))
    if plan.arguments is None:
        rows.append(("Budget", "not known: the plan was loaded from a file"))
    else:
        given = {
            key: value
            for key, value in plan.arguments.items()
            if key not in ("method", "seed", "refine_steps")
        }
        budget = ", ".join(f"{key}={shown(value)}" for key, value in given.items())
        nothing = "none: the method's own choice, in all layers"
        if searched:
            nothing = "found by the search below, in all layers"
        rows.append(("Budget and layers", budget or nothing))
    rows.append(("Data", _data(plan)))
    rows.append(("Recovery", f"{plan.refine_steps:,} steps" if plan.refine_steps else "none"))
    rows.append(("Seed", str(plan.seed)))
    return rows


def _data(plan: ReadablePlan) -> str:
    if plan.rows is not None:
        return plan.rows.source
    return "unlabelled rows" if plan.used_data else "none: the inputs were assumed"


def _sizes(plan: ReadablePlan) -> list[dict[str, Any]]:
    groups = [group for group in plan.groups if is_units(group)]
    units = sum(group.units for group in groups), sum(len(group.kept) for group in groups)
    pairs = [("Parameters", plan.parameters), ("Multiply-adds of one row", plan.multiply_adds)]
    pairs.append(("Units of the layers below", units))
    return [
        {
            "name": name,
            "before": f"{pair[0]:,}",
            "after": f"{pair[1]:,}",
            "fewer": fewer(*pair),
            "share": _share(pair[1], pair[0]),
        }
        for name, pair in pairs
        if pair is not None
    ]


def _share(part: int, whole: int) -> str:
    """Return a share in percent, as CSS writes it."""
    return f"{100 * part / whole:.2f}%" if whole else "100%"


def _group(group: ReadableGroup, number: int) -> dict[str, Any]:
    """Return what the page shows of one group."""
    costs, measure = curve_costs(group.curve)
    name = f"group-{number}"
    into = _merges(group)
    spread = into.pop(_NO_UNIT, [])
    return {
        "layer": group.layer,
        "kind": group.kind,
        "others": group.layers[1:],
        "units": group.units,
        "kept": len(group.kept),
        "removed": len(group.removed),
        "lists_units": is_units(group) and len(group.removed) > 0,
        "share": _share(len(group.kept), group.units),
        "fewer": fewer(group.units, len(group.kept)),
        "parameters": group.parameters,
        "predicted_error": group.predicted_error,
        "note": group.note,
        "measure": measure,
        "lossless": min(group.curve.lossless, len(group.removed)),
        "cutoff": group.curve.cutoff,
        "last_cost": float(costs[len(group.removed) - 1]) if len(group.removed) else None,
        "curve": _markup(curve_svg(group, name)) if len(costs) else None,
        "histogram": _histogram(group, f"{name}-histogram"),
        "merges": [(kept, _listed(into[kept])) for kept in sorted(into)],
        "spread": _listed(spread),
        "unlisted": max(0, len(group.removed) - _MOST_LISTED),
    }


def _histogram(group: ReadableGroup, name: str) -> Any:
    return None if group.curve.histogram is None else _markup(histogram_svg(group, name))


def _markup(svg: str) -> Any:
    from markupsafe import Markup

    return Markup(svg)  # texts in it are escaped where it is drawn


def _merges(group: ReadableGroup) -> dict[int, list[int]]:
    """Return the removed units by the kept unit that takes over for them, -1 for no single one."""
    into: dict[int, list[int]] = {}
    removed, survivor = np.asarray(group.removed), np.asarray(group.survivor)
    for unit, kept in zip(removed[:_MOST_LISTED], survivor[:_MOST_LISTED], strict=True):
        into.setdefault(int(kept), []).append(int(unit))
    return into


def _pictures(group: ReadableGroup, weights: np.ndarray | None) -> list[dict[str, Any]]:
    """Return pictures of removed units, each beside the kept unit that takes over for it."""
    if weights is None:
        return []
    pairs = zip(group.removed[:MOST_SHOWN], group.survivor[:MOST_SHOWN], strict=True)
    return [
        {
            "unit": int(unit),
            "picture": picture(weights[unit]),
            "kept": int(kept),
            "beside": None if kept == _NO_UNIT else picture(weights[kept]),
        }
        for unit, kept in pairs
    ]


def _listed(units: list[int]) -> str:
    return ", ".join(map(str, units))


def _why_nothing_is_measured(plan: ReadablePlan) -> str:
    """Return the sentence that stands in place of the measured changes."""
    if all(len(group.removed) == 0 for group in plan.groups):
        return "No unit is removed, so nothing changes."
    if all(len(group.removed) <= group.curve.lossless for group in plan.groups):
        return "Only units are removed whose removal changes nothing."
    return "The change at this size wasn't measured."
