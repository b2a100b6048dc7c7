"""What `benchmarks/speed.py` found into the table and the plot of `docs/performance.md`."""

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
    """Puts the text between two markers, and the plot into `docs/images/speed.png`."""
    page = docs / "performance.md"
    before, rest = page.read_text().split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")
    plot(results, docs / "images" / "speed.png")


def table(results: list[dict]) -> str:
    """Markdown, one row for each case; of several processes the span of the Saliency plan, too."""
    columns = {key: title for key, title in COLUMNS.items() if any(key in one for one in results)}
    titles = ["layers", "Gram products, s", *columns.values(), "peak, GB"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for one in results:
        cells = {key: f"{one[key]:.2f}" if key in one else "–" for key in columns}
        alone = one["saliency in each process"]
        if len(alone) > 1:
            cells["saliency"] += f" ({min(alone):.2f} to {max(alone):.2f})"
        name, products = "-".join(map(str, one["widths"])), f"{one['seconds']['gram']:.3f}"
        row = [name, products, *cells.values(), f"{one['peak'] / 1e9:.1f}"]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def slopes(results: list[dict]) -> str:
    """How seconds grow with the width, over the square cases: `d log t / d log n`."""
    found = {}
    for stage in ("gram", "saliency", "apply", "moments"):
        points = _points(results, stage)
        if len(points) > 1:
            found[stage] = np.polyfit(*np.log(np.array(points)).T, 1)[0]
    if not found:
        return ""
    parts = [f"{stage} {slope:.2f}" for stage, slope in found.items()]
    return f"Log-log slopes over the widths: {', '.join(parts)}."


def plot(results: list[dict], path: pathlib.Path) -> None:
    """Seconds against the width."""
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
    """Widths and seconds of a stage, over the cases of one layer as wide as its inputs."""
    return [
        (one["widths"][1], one["seconds"][stage])
        for one in results
        if len(one["widths"]) == 3 and stage in one["seconds"]
    ]
