"""Finished cells of `benchmarks/accuracy.py` into the tables and the plot of `docs/methods.md`.

Means over the seeds; tables stand between two markers, so that the text around them stays.
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
ROWS = {  # the better of the two settings, cell by cell
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
    """Puts the tables into `docs/methods.md` and the plot into `docs/images/accuracy.png`."""
    page = docs / "methods.md"
    text = page.read_text()
    head, tail = text[: text.index(BEGIN)], text[text.index(END) :]
    tables = "\n\n".join(table(rows, case) for case in TITLES if _of(rows, case))
    page.write_text(f"{head}{BEGIN}\n\n{tables}\n\n{tail}")
    plot(rows, docs / "images" / "accuracy.png")


def table(rows: list[dict], case: tuple[str, str]) -> str:
    """One network's Markdown table: accuracy of each method at each fraction, seconds last."""
    rows = _of(rows, case)
    base = [row["accuracy"] for row in rows if row["method"] == "base"]
    whole = next(row["parameters"] for row in rows if row["method"] == "base")
    fractions = sorted({row["fraction"] for row in rows if row["method"] != "base"})
    gone = [_gone(rows, fraction, whole) for fraction in fractions]
    lines = [
        f"**{TITLES[case]}**; base {np.mean(base):.2f} (mean of {len(base)}), test accuracy.",
        "",
        "| units removed (parameters) | "
        + " | ".join(f"{100 * f:.0f} % ({g:.0f})" for f, g in zip(fractions, gone, strict=True))
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
    """Accuracy against the units removed, one panel for each network."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = [case for case in TITLES if _of(rows, case)]
    figure, axes = plt.subplots(2, 4, figsize=(15, 7))
    for panel in axes.flat[len(cases) :]:
        panel.axis("off")
    for case, panel in zip(cases, axes.flat, strict=False):
        some = _of(rows, case)
        fractions = sorted({row["fraction"] for row in some if row["method"] != "base"})
        for place, (name, methods) in enumerate(ROWS.items()):
            points = [(f, _best(some, methods, f)) for f in fractions]
            points = [(100 * f, mean[0]) for f, mean in points if mean is not None]
            if points:
                panel.plot(*zip(*points, strict=True), marker=".", label=name, color=f"C{place}")
        base = np.mean([row["accuracy"] for row in some if row["method"] == "base"])
        panel.axhline(base, color="grey", linewidth=0.8)
        panel.set(title=TITLES[case].replace(", its", ",\nits"), xlabel="units removed, %")
        panel.title.set_fontsize(9)
    axes[0, 0].set_ylabel("test accuracy, %")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=80)
    plt.close(figure)


def _of(rows: list[dict], case: tuple[str, str]) -> list[dict]:
    return [row for row in rows if (row["net"], row["dataset"]) == case]


def _gone(rows: list[dict], fraction: float, whole: int) -> float:
    some = [row["parameters"] for row in rows if row["fraction"] == fraction]
    return 100.0 * (1.0 - np.median(some) / whole)


def _best(rows: list[dict], methods: tuple, fraction: float) -> tuple[float, str] | None:
    """Mean over the seeds of the better method, and a mark where seeds are missing."""
    seeds = len({row["seed"] for row in rows if row["method"] == "base"})
    found = []
    for method in methods:
        values = [
            row["accuracy"]
            for row in rows
            if row["method"] == method and row["fraction"] == fraction
        ]
        if values:
            found.append((float(np.mean(values)), "" if len(values) == seeds else "¹"))
    return max(found, default=None)
