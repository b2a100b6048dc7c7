"""Draw Figure 2: saliency and growth of the test error, and the histogram of the saliencies.

The test error grows from the knee of the saliency curve on. The mode of the histogram is the
cut-off that needs no data (Section 4).
"""

import numpy as np

import keras_dfprune as dfprune
from examples.paper.results import new_figure, progress, write_csv, write_figure
from examples.paper.settings import Settings
from examples.paper.sweep import Experiment, trained_models

METHODS = {"normalised": dfprune.Saliency(), "raw": dfprune.Saliency(normalize=False)}


def run(settings: Settings) -> dict[str, np.ndarray]:
    """Write `figure2a` and `figure2b`, `.png` and `.csv`; return the growth of the test error."""
    experiment = Experiment("lenet5", "mnist", ("fc1",)).smaller(settings)
    trained = trained_models(experiment, settings)[0]
    # Table 1 ends there too. The saliencies of the last ten units would hide all others.
    last, points = round(0.98 * trained.units), 3 if settings.quick else 50
    counts = np.linspace(0, last, points).round().astype(int)
    groups = {name: trained.plan(method).groups[0] for name, method in METHODS.items()}
    errors: dict[str, list[float]] = {name: [] for name in METHODS}
    for count in progress("figure2", counts):
        for name, method in METHODS.items():
            errors[name].append(100.0 - trained.accuracy(trained.pruned(method, int(count))))
    growth = {name: np.array(values) - values[0] for name, values in errors.items()}
    _write_curves(groups, counts, growth, experiment, settings)
    _write_histogram(groups["normalised"], experiment, settings)
    return growth


def _write_curves(
    groups: dict[str, dfprune.GroupPlan],
    counts: np.ndarray,
    growth: dict[str, np.ndarray],
    experiment: Experiment,
    settings: Settings,
) -> None:
    figure, axes = new_figure(10, 4, columns=2)
    rows = []
    for panel, (name, group) in zip(axes, groups.items(), strict=True):
        # `saliency[k]` is the cost of the k-th removal.
        saliency = np.concatenate([[0.0], group.saliency])[: counts[-1] + 1]
        panel.plot(saliency / saliency.max(), label="saliency of the last unit removed")
        panel.plot(counts, growth[name] / growth[name].max(), "o-", markersize=3,
                   label="growth of the test error")  # fmt: skip
        if group.cutoff is not None:
            panel.axvline(len(group.removed), color="C3", linestyle="--", label="cut-off (mode)")
        panel.set(title=f"{experiment.title}: {name} weight-sets", xlabel="units removed")
        panel.set(ylabel="relative to the largest value", ylim=(-0.05, 1.05))
        panel.grid(alpha=0.3)
        panel.legend(loc="upper left")
        rows += [
            (name, count, f"{saliency[count]:.6g}", f"{value:.2f}")
            for count, value in zip(counts, growth[name], strict=True)
        ]
    write_figure(settings.output / "figure2a.png", figure)
    header = (
        "weight-sets",
        "units removed",
        "saliency of the last",
        "growth of test error [points]",
    )
    write_csv(settings.output / "figure2a.csv", header, rows)


def _write_histogram(group: dfprune.GroupPlan, experiment: Experiment, settings: Settings) -> None:
    figure, (axes,) = new_figure(6.5, 4)
    counts, edges = group.histogram
    axes.stairs(
        counts, edges, fill=True, alpha=0.6, label="pairs $s_{ij}$, up to the 95th percentile"
    )
    if group.cutoff is not None:
        text = f"mode: {group.cutoff:.2g}, {len(group.removed)} units removed"
        axes.axvline(group.cutoff, color="C3", linestyle="--", label=text)
    axes.set(title=f"{experiment.title}: normalised weight-sets", xlabel="saliency $s_{ij}$")
    axes.set(ylabel="pairs in the bin")
    axes.set_ylim(0, 1.3 * counts.max())
    axes.legend(loc="upper right")
    write_figure(settings.output / "figure2b.png", figure)
    rows = [(f"{edge:.6g}", int(count)) for edge, count in zip(edges, counts, strict=False)]
    write_csv(settings.output / "figure2b.csv", ("saliency from", "pairs"), rows)
