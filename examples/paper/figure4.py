"""Figure 4: the same removals with the surgery and without it, test error on a log scale."""

import numpy as np

import keras_dfprune as dfprune
from examples.paper.results import new_figure, progress, write_csv, write_figure
from examples.paper.settings import Settings
from examples.paper.sweep import Experiment, trained_models

WAYS = {
    "with surgery": dfprune.Saliency(),
    "without surgery": dfprune.Saliency(surgery=False),
}


def run(settings: Settings) -> dict[str, np.ndarray]:
    """Writes `figure4.png` and `figure4.csv`; returns errors, shape `(counts, models)`."""
    experiment = Experiment("lenet5", "mnist", ("fc1",)).smaller(settings)
    models = trained_models(experiment, settings)
    counts = np.linspace(0, models[0].units * 0.98, 3 if settings.quick else 26).round().astype(int)
    errors = {way: [] for way in WAYS}
    for count in progress("figure4", counts):
        for way, method in WAYS.items():
            narrow = [trained.pruned(method, int(count)) for trained in models]
            errors[way].append(
                [100.0 - t.accuracy(model) for t, model in zip(models, narrow, strict=True)]
            )
    errors = {way: np.array(values) for way, values in errors.items()}
    figure, (axes,) = new_figure(6.5, 4.2)
    for way, values in errors.items():
        mean = values.mean(axis=1)
        (line,) = axes.plot(counts, mean, "o-", markersize=3, label=way)
        axes.fill_between(
            counts, values.min(axis=1), values.max(axis=1), color=line.get_color(), alpha=0.2
        )
    axes.set(yscale="log", xlabel=f"units removed, of {models[0].units}", ylabel="test error [%]")
    axes.set(title=f"{experiment.title}: mean and range of {len(models)} models")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    write_figure(settings.output / "figure4.png", figure)
    header = ("units removed", *(f"{way}: test error [%]" for way in WAYS))
    rows = [
        (count, *(f"{errors[way][k].mean():.2f}" for way in WAYS)) for k, count in enumerate(counts)
    ]
    write_csv(settings.output / "figure4.csv", header, rows)
    return errors
