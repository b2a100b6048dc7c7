"""Prune trained networks at several sizes and measure their test accuracies.

Only dense layers behind the convolutions are pruned, so the features that reach them from the test
images are computed once.
"""

import dataclasses
import pathlib

import keras

import keras_dfprune as dfprune
from benchmarks import nets
from examples.paper.settings import Settings


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Network, data set and layers to prune.

    Attributes:
        net: A name in `benchmarks.nets.NETS`.
        dataset: One of its data sets.
        layers: The layers that are pruned, all by the same fraction of their units.
    """

    net: str
    dataset: str
    layers: tuple[str, ...]

    def smaller(self, settings: Settings) -> "Experiment":
        """Return the experiment, or with `--quick` the network on scikit-learn's digits instead."""
        return Experiment("digits", "digits", self.layers) if settings.quick else self

    @property
    def title(self) -> str:
        """Network and data set in words."""
        names = {"lenet5": "LeNet-5", "lenet300": "LeNet-300-100", "digits": "64-256-256-10"}
        data = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "digits": "digits"}
        return f"{names[self.net]}, {data[self.dataset]}"


class Trained:
    """Trained model, and the features of the test images in front of its first pruned layer.

    Args:
        experiment: What to prune.
        seed: Seed of the training.
        settings: Settings of the run.
    """

    def __init__(self, experiment: Experiment, seed: int, settings: Settings):
        self.experiment = experiment
        self.seed = seed
        net, dataset = experiment.net, experiment.dataset
        options = {"data_dir": settings.data_dir, "quick": settings.quick}
        self.model = nets.trained(net, dataset, seed, settings.cache, **options)
        _, test = nets.load_data(dataset, settings.data_dir)
        first = self.model.get_layer(experiment.layers[0])
        self._depth = self.model.layers.index(first)
        body = keras.Model(self.model.inputs, first.input)
        x = test.shaped_for(self.model).x
        features = body.predict(x, batch_size=1000, verbose=0) if self._depth else x
        self._test = nets.Split(features, test.y)

    @property
    def units(self) -> int:
        """Total number of units of the pruned layers."""
        return sum(self.model.get_layer(name).units for name in self.experiment.layers)

    def plan(self, method: dfprune.Method, removed: int | None = None) -> dfprune.PruningPlan:
        """Plan to remove `removed` units, the same fraction in each layer; None: by the cut-off."""
        if removed is None:
            return dfprune.plan(self.model, method=method, layers=self.experiment.layers)
        sparsity = dict.fromkeys(self.experiment.layers, removed / self.units)
        return dfprune.plan(self.model, method=method, sparsity=sparsity)

    def pruned(self, method: dfprune.Method, removed: int) -> keras.Model:
        """Prune the model."""
        return self.plan(method, removed).apply(self.model) if removed else self.model

    def accuracy(self, model: keras.Model) -> float:
        """Measure the test accuracy, in percent, of the model or of a pruned model made from it."""
        tail = keras.Sequential([keras.Input(self._test.x.shape[1:]), *model.layers[self._depth :]])
        return nets.accuracy(tail, self._test)


def trained_models(experiment: Experiment, settings: Settings) -> list[Trained]:
    """Train a model for each seed, or load it from the cache."""
    models = []
    for seed in settings.seeds:
        file = f"{experiment.net}-{experiment.dataset}-{seed}"
        if not list(pathlib.Path(settings.cache).glob(f"{file}*.keras")):
            print(f"training {file} ...", flush=True)
        models.append(Trained(experiment, seed, settings))
    return models
