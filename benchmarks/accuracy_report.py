"""Write the tables and the plot of `docs/research/accuracy.md` from `benchmarks/accuracy.csv`.

`python -m benchmarks.accuracy --report` runs it. Accuracies are means over the seeds. The tables
replace the text between two markers of the page.
"""

import pathlib

import numpy as np

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
TITLES = {
    ("digits", "digits"): "64-256-256-10 on scikit-learn's digits",
    ("lenet300", "mnist"): "LeNet-300-100 on MNIST",
    ("lenet300", "fashion_mnist"): "LeNet-300-100 on Fashion-MNIST",
    ("gelu", "mnist"): "300-100 with gelu on MNIST",
    ("batchnorm", "fashion_mnist"): "300-100 with BatchNormalization on Fashion-MNIST",
    ("lenet5", "mnist"): "LeNet-5 on MNIST, its dense layer of 500 units",
    ("lenet5", "fashion_mnist"): "LeNet-5 on Fashion-MNIST, its dense layer of 500 units",
}
# The methods behind each row of a table; of two the better one is shown, cell by cell.
ROWS = {
    "random": ("random",),
    "smallest": ("smallest weights", "smallest products"),
    "paper, raw": ("paper, raw",),
    "paper": ("paper",),
    "Ward": ("Ward",),
    "moments": ("moments",),
    "shared out": ("shared out",),
    "refined": ("refined",),
    "calibrated": ("calibrated",),
}


def write(rows: list[dict], docs: pathlib.Path) -> None:
    """Write the tables of `docs/research/accuracy.md` and the plot `docs/images/accuracy.png`."""
    page = docs / "research" / "accuracy.md"
    text = page.read_text()
    head, tail = text[: text.index(BEGIN)], text[text.index(END) :]
    tables = "\n\n".join(table(rows, case) for case in TITLES if _rows_of(rows, case))
    page.write_text(f"{head}{BEGIN}\n\n{tables}\n\n{tail}")
    plot(rows, docs / "images" / "accuracy.png")


def table(rows: list[dict], case: tuple[str, str]) -> str:
    """Return the Markdown table of a network: accuracies by method and fraction, then seconds."""
    rows = _rows_of(rows, case)
    base = [row["accuracy"] for row in rows if row["method"] == "base"]
    whole = next(row["parameters"] for row in rows if row["method"] == "base")
    fractions = sorted({row["fraction"] for row in rows if row["method"] != "base"})
    shares = [_parameters_removed(rows, fraction, whole) for fraction in fractions]
    lines = [
        f"**{TITLES[case]}**; base {np.mean(base):.2f} (mean of {len(base)}), test accuracy.",
        "",
        "| units removed (parameters) | "
        + " | ".join(f"{100 * f:.0f} % ({g:.0f})" for f, g in zip(fractions, shares, strict=True))
        + " | seconds |",
        "|" + "---|" * (len(fractions) + 2),
    ]
    for name, methods in ROWS.items():
        means = [_best(rows, methods, fraction) for fraction in fractions]
        if all(mean is None for mean in means):
            continue
        shown = ["–" if mean is None else f"{mean[0]:.1f}{mean[1]}" for mean in means]
        time = np.median([row["seconds"] for row in rows if row["method"] in methods])
        lines.append(f"| {name} | {' | '.join(shown)} | {time:.1f} |")
    return "\n".join(lines)


def plot(rows: list[dict], file: pathlib.Path) -> None:
    """Plot accuracy against the units removed, one panel for each network."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = [case for case in TITLES if _rows_of(rows, case)]
    figure, axes = plt.subplots(2, 4, figsize=(15, 7))
    for panel in axes.flat[len(cases) :]:
        panel.axis("off")
    for case, panel in zip(cases, axes.flat, strict=False):
        measured = _rows_of(rows, case)
        fractions = sorted({row["fraction"] for row in measured if row["method"] != "base"})
        for number, (name, methods) in enumerate(ROWS.items()):
            means = [(f, _best(measured, methods, f)) for f in fractions]
            points = [(100 * f, mean[0]) for f, mean in means if mean is not None]
            if points:
                panel.plot(*zip(*points, strict=True), marker=".", label=name, color=f"C{number}")
        base = np.mean([row["accuracy"] for row in measured if row["method"] == "base"])
        panel.axhline(base, color="grey", linewidth=0.8)
        panel.set(title=TITLES[case].replace(", its", ",\nits"), xlabel="units removed, %")
        panel.title.set_fontsize(9)
    axes[0, 0].set_ylabel("test accuracy, %")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=80)
    plt.close(figure)


def _rows_of(rows: list[dict], case: tuple[str, str]) -> list[dict]:
    return [row for row in rows if (row["net"], row["dataset"]) == case]


def _parameters_removed(rows: list[dict], fraction: float, whole: int) -> float:
    """Return the median share of the parameters removed, in percent."""
    left = [row["parameters"] for row in rows if row["fraction"] == fraction]
    return 100.0 * (1.0 - np.median(left) / whole)


def _best(rows: list[dict], methods: tuple, fraction: float) -> tuple[float, str] | None:
    """Return the mean accuracy of the better method, and a mark if seeds are missing."""
    seeds = len({row["seed"] for row in rows if row["method"] == "base"})
    means = []
    for method in methods:
        values = [
            row["accuracy"]
            for row in rows
            if row["method"] == method and row["fraction"] == fraction
        ]
        if values:
            means.append((float(np.mean(values)), "" if len(values) == seeds else "¹"))
    return max(means, default=None)
