"""Draw Figure 4: test error after the same removals with surgery and without, on a log scale."""

import numpy as np

import keras_dfprune as dfprune
from examples.paper.results import new_figure, progress, write_csv, write_figure
from examples.paper.settings import Settings
from examples.paper.sweep import Experiment, trained_models

METHODS = {
    "with surgery": dfprune.Saliency(),
    "without surgery": dfprune.Saliency(surgery=False),
}


def run(settings: Settings) -> dict[str, np.ndarray]:
    """Write `figure4.png` and `figure4.csv`; return the errors, shape `(counts, models)`."""
    experiment = Experiment("lenet5", "mnist", ("fc1",)).smaller(settings)
    models = trained_models(experiment, settings)
    counts = np.linspace(0, models[0].units * 0.98, 3 if settings.quick else 26).round().astype(int)
    rows_of_errors: dict[str, list[list[float]]] = {name: [] for name in METHODS}
    for count in progress("figure4", counts):
        for name, method in METHODS.items():
            rows_of_errors[name].append(
                [100.0 - trained.accuracy(trained.pruned(method, int(count))) for trained in models]
            )
    errors = {name: np.array(values) for name, values in rows_of_errors.items()}
    figure, (axes,) = new_figure(6.5, 4.2)
    for name, values in errors.items():
        mean = values.mean(axis=1)
        (line,) = axes.plot(counts, mean, "o-", markersize=3, label=name)
        axes.fill_between(
            counts, values.min(axis=1), values.max(axis=1), color=line.get_color(), alpha=0.2
        )
    axes.set(yscale="log", xlabel=f"units removed, of {models[0].units}", ylabel="test error [%]")
    axes.set(title=f"{experiment.title}: mean and range of {len(models)} models")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    write_figure(settings.output / "figure4.png", figure)
    header = ("units removed", *(f"{name}: test error [%]" for name in METHODS))
    rows = [
        (count, *(f"{errors[name][k].mean():.2f}" for name in METHODS))
        for k, count in enumerate(counts)
    ]
    write_csv(settings.output / "figure4.csv", header, rows)
    return errors
