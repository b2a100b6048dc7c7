"""Write Table 2 for a small AlexNet on Fashion-MNIST, which is trained here.

It shows accuracy by units removed from fc6, from fc7 and from both.
"""

import numpy as np

import keras_dfprune as dfprune
from benchmarks import nets
from examples.paper.results import mean_and_spread, new_figure, progress, write_figure, write_table
from examples.paper.settings import Settings
from examples.paper.sweep import Experiment, Trained, trained_models

LAYERS = {"fc6": ("fc6",), "fc7": ("fc7",), "fc6 and fc7": ("fc6", "fc7")}
FRACTIONS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)


def run(settings: Settings) -> list[list]:
    """Write `table2-small`, `.csv` and `.png`; return the rows."""
    fractions = (0.5,) if settings.quick else FRACTIONS
    # The test features are those in front of fc6, for all three rows.
    models = trained_models(Experiment("alexnet", "fashion_mnist", ("fc6", "fc7")), settings)
    cells = [(name, fraction) for name in LAYERS for fraction in fractions]
    rows, curves = [], {name: [] for name in LAYERS}
    for name, fraction in progress("table2-small", cells):
        raw = [_prune(t, name, fraction, dfprune.Saliency(normalize=False)) for t in models]
        normalised = [_prune(t, name, fraction, dfprune.Saliency()) for t in models]
        curves[name].append([accuracy for accuracy, _ in normalised])
        removed = np.mean([share for _, share in normalised])
        accuracies = [mean_and_spread([a for a, _ in pairs]) for pairs in (raw, normalised)]
        units = nets.NETS["alexnet"].build().get_layer("fc6").units
        rows.append([name, f"{round(fraction * units)} of {units}", f"{removed:.1f}", *accuracies])
    header = ("layers", "units removed in each", "parameters removed [%]")
    header += ("ours, raw [%]", "ours, normalised [%]")
    write_table(settings.output / "table2-small.csv", header, rows)
    figure, (axes,) = new_figure(6.5, 4)
    for name, values in curves.items():
        values = np.array(values)
        (line,) = axes.plot(np.multiply(fractions, 100), values.mean(axis=1), "o-", label=name)
        low, high = values.min(axis=1), values.max(axis=1)
        axes.fill_between(np.multiply(fractions, 100), low, high, alpha=0.2, color=line.get_color())
    axes.set(xlabel="units removed [% of each layer]", ylabel="test accuracy [%]")
    axes.set(title=f"AlexNet's shape, Fashion-MNIST: mean and range of {len(models)}")
    axes.grid(alpha=0.3)
    axes.legend()
    write_figure(settings.output / "table2-small.png", figure)
    return rows


def _prune(
    trained: Trained, name: str, fraction: float, method: dfprune.Method
) -> tuple[float, float]:
    """Prune a model; return test accuracy and share of parameters removed, both in percent."""
    model = trained.model
    narrow = dfprune.apply(model, method=method, sparsity=dict.fromkeys(LAYERS[name], fraction))
    removed = 100.0 * (1.0 - narrow.count_params() / model.count_params())
    return trained.accuracy(narrow), removed
