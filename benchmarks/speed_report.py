"""Write the table and the plot of `docs/research/speed.md` from the results of `benchmarks.speed`.

`python -m benchmarks.speed --report` runs it.
"""

import pathlib

import numpy as np

BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
COLUMNS = {
    "saliency": "Saliency plan",
    "rebuild": "rebuild",
    "keras": "Keras alone",
    "verify": "verify",
    "apply": "apply",
    "torch-pruning": "torch-pruning",
    "moments": "Moments plan",
}


def write(text: str, results: list[dict], docs: pathlib.Path) -> None:
    """Write the text between the page's two markers, and the plot to `docs/images/speed.png`."""
    page = docs / "research" / "speed.md"
    before, rest = page.read_text().split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")
    plot(results, docs / "images" / "speed.png")


def table(results: list[dict]) -> str:
    """Return the Markdown table, one row for each case.

    If a case ran in several processes, the Saliency plan's cell shows the range of their medians.
    """
    columns = {key: title for key, title in COLUMNS.items() if any(key in case for case in results)}
    titles = ["layers", "Gram products, s", *columns.values(), "peak, GB"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for case in results:
        cells = {key: f"{case[key]:.2f}" if key in case else "–" for key in columns}
        medians = case["saliency in each process"]
        if len(medians) > 1:
            cells["saliency"] += f" ({min(medians):.2f} to {max(medians):.2f})"
        name, products = "-".join(map(str, case["widths"])), f"{case['seconds']['gram']:.3f}"
        row = [name, products, *cells.values(), f"{case['peak'] / 1e9:.1f}"]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def slopes(results: list[dict]) -> str:
    """Fit the growth of the seconds with the width, `d log t / d log n`, over the square cases."""
    slope_of = {}
    for stage in ("gram", "saliency", "apply", "moments"):
        points = _points(results, stage)
        if len(points) > 1:
            slope_of[stage] = np.polyfit(*np.log(np.array(points)).T, 1)[0]
    if not slope_of:
        return ""
    parts = [f"{stage} {slope:.2f}" for stage, slope in slope_of.items()]
    return f"Log-log slopes over the widths: {', '.join(parts)}."


def plot(results: list[dict], path: pathlib.Path) -> None:
    """Plot the seconds against the width."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for stage in ("gram", "gram64+inv", "saliency", "moments", "apply", "torch-pruning"):
        points = _points(results, stage)
        if points:
            axes.loglog(*zip(*points, strict=True), "o-", label=stage)
    axes.set(xlabel="units and inputs of the layer", ylabel="seconds")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=100, bbox_inches="tight")
    pyplot.close(figure)


def _points(results: list[dict], stage: str) -> list[tuple[int, float]]:
    """Return widths and seconds of a stage in the square cases, which prune one layer."""
    return [
        (case["widths"][1], case["seconds"][stage])
        for case in results
        if len(case["widths"]) == 3 and stage in case["seconds"]
    ]
