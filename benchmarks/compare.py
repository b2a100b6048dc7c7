"""Compare with other tools: LeNet-300-100 on MNIST at a quarter of the parameters.

`python -m benchmarks.compare` prints the table of `docs/compare.md`. Tools that don't install
beside TensorFlow run in environments of their own, which hold nothing but them:

    python -m venv peers && peers/bin/pip install torch torch-pruning
    python -m venv tfmot && tfmot/bin/pip install tensorflow tf_keras tensorflow-model-optimization
    python -m benchmarks.compare --torch peers/bin/python --tfmot tfmot/bin/python

What isn't given is left out, and a line says why.
"""

import argparse
import dataclasses
import functools
import gzip
import pathlib
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable

import keras
import numpy as np

import keras_dfprune as dfprune
from benchmarks import nets
from keras_dfprune.exporting.litert_interpreter import LiteRTProgram

SHARE = 0.25
ROWS, STEPS, EPOCHS = 2000, 1000, 3
HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass
class Row:
    """Row of the table: the figures of one tool.

    Attributes:
        parameters: Parameters that aren't zero.
        accuracy: Share of the test images that are right, in percent.
        seconds: Seconds that the tool took, without starting it.
        kilobytes: Size of the LiteRT file, or of the `.keras` file where there is none.
        packed: Size of that file packed by gzip.
        microseconds: LiteRT's time for one image in one thread; NaN without such a file.
    """

    parameters: float
    accuracy: float
    seconds: float
    kilobytes: float
    packed: float
    microseconds: float = float("nan")


class Comparison:
    """Tools that make one trained network smaller.

    Args:
        seed: Seed of the training.
        arguments: The options of the command.
    """

    def __init__(self, seed: int, arguments: argparse.Namespace):
        self.wide = nets.trained(
            "lenet300", "mnist", seed, arguments.cache, data_dir=arguments.data_dir
        )
        train, test = nets.load_data("mnist", arguments.data_dir)
        self.train, self.test = train.shaped_for(self.wide), test.shaped_for(self.wide)
        self.rows = self.train.x[:ROWS]
        self.limit = int(SHARE * self.wide.count_params())
        self.seed, self.arguments = seed, arguments
        self.folder = pathlib.Path(tempfile.mkdtemp())

    def tools(self) -> dict[str, Callable[[], Row]]:
        """Return a function for each row of the table."""
        tools = {
            "the original": lambda: self.measured(self.wide, 0.0),
            "keras_dfprune, no data": self.without_data,
            f"keras_dfprune, no data, then {EPOCHS} epochs": self.trained_on,
            f"keras_dfprune, {ROWS:,} rows, {STEPS:,} steps": self.with_rows,
            f"keras_dfprune, {ROWS:,} rows, {STEPS:,} steps, then LiteRT int8": self.with_int8,
            "LiteRT int8 alone": lambda: self.measured(self.wide, 0.0, "int8"),
            "Keras `quantize('int8')`": self.quantized,
            f"Keras distillation into a fresh network, {EPOCHS} epochs": self.distilled,
        }
        if self.arguments.torch:
            tools["torch-pruning, magnitude"] = self.torch
            tools[f"torch-pruning, magnitude, then {EPOCHS} epochs"] = self.torch_trained_on
        if self.arguments.tfmot:
            tools["tfmot, magnitude, 2 epochs"] = self.tfmot
        return tools

    def measured(self, model: keras.Model, seconds: float, quantize: str | None = None) -> Row:
        """Return the figures of a Keras model, as a LiteRT file."""
        path = self.folder / "model.tflite"
        start = time.perf_counter()
        data = self.rows if quantize == "int8" else None
        dfprune.export(model, path, quantize=quantize, representative_data=data)
        if quantize:
            seconds += time.perf_counter() - start
        program = LiteRTProgram(path)
        (spec,) = program.inputs
        (outputs,) = program.run({spec.name: self.test.x}).values()
        accuracy = 100.0 * float(np.mean(np.argmax(outputs, axis=1) == self.test.y))
        latency = dfprune.profile(path).latency
        used = sum(int(np.count_nonzero(weight)) for weight in model.get_weights())
        return Row(used, accuracy, seconds, *sizes(path), latency.median * 1e3)

    def without_data(self) -> Row:
        """Prune without any data."""
        start = time.perf_counter()
        narrow = dfprune.apply(self.wide, max_params=self.limit)
        return self.measured(narrow, time.perf_counter() - start)

    def trained_on(self) -> Row:
        """Prune without any data, and train on labelled images."""
        start = time.perf_counter()
        narrow = dfprune.apply(self.wide, max_params=self.limit)
        self.fit(narrow)
        return self.measured(narrow, time.perf_counter() - start)

    def fit(self, model: keras.Model) -> None:
        """Train a narrow model on labelled images."""
        keras.utils.set_random_seed(self.seed)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss)
        model.fit(self.train.x, self.train.y, batch_size=128, epochs=EPOCHS, verbose=0)

    @functools.cached_property
    def recovered(self) -> tuple[keras.Model, float]:
        """Narrow model of rows and recovery, and the seconds that it took."""
        start = time.perf_counter()
        narrow = dfprune.apply(self.wide, max_params=self.limit, data=self.rows, refine_steps=STEPS)
        return narrow, time.perf_counter() - start

    def with_rows(self) -> Row:
        """Prune on unlabelled rows, and recover on them."""
        return self.measured(*self.recovered)

    def with_int8(self) -> Row:
        """Prune on rows, recover, and quantise on the same rows."""
        return self.measured(*self.recovered, "int8")

    def quantized(self) -> Row:
        """Quantise in Keras, whose result LiteRT can't convert."""
        model = nets.NETS["lenet300"].build()  # not compiled, so the file holds no optimizer
        model.set_weights(self.wide.get_weights())
        start = time.perf_counter()
        model.quantize("int8")
        seconds = time.perf_counter() - start
        path = self.folder / "quantized.keras"
        model.save(path)
        used = float(self.wide.count_params())
        return Row(used, nets.accuracy(model, self.test), seconds, *sizes(path))

    def distilled(self) -> Row:
        """Train a fresh network of the widths of ours on the original's outputs and the labels."""
        narrow = dfprune.plan(self.wide, max_params=self.limit)
        widths = tuple(len(group.kept) for group in narrow.groups)
        keras.utils.set_random_seed(self.seed)
        student = nets.perceptron(784, widths, "relu")
        start = time.perf_counter()
        distiller = keras.distillation.Distiller(
            teacher=self.wide,
            student=student,
            distillation_losses=keras.distillation.LogitsDistillation(temperature=3.0),
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile("adam", loss)
        distiller.fit(self.train.x, self.train.y, batch_size=128, epochs=EPOCHS, verbose=0)
        return self.measured(student, time.perf_counter() - start)

    def torch(self) -> Row:
        """Drop the smallest units with torch-pruning, the same share of each layer."""
        return self.measured(*self.from_torch())

    def torch_trained_on(self) -> Row:
        """Drop the smallest units with torch-pruning, and train on labelled images."""
        narrow, seconds = self.from_torch()
        start = time.perf_counter()
        self.fit(narrow)
        return self.measured(narrow, seconds + time.perf_counter() - start)

    def from_torch(self) -> tuple[keras.Model, float]:
        """Return the network that torch-pruning made, in Keras, and its seconds."""
        arrays, seconds = self.other(self.arguments.torch, "compare_torch.py")
        narrow = nets.perceptron(784, tuple(len(bias) for bias in arrays[1:-1:2]), "relu")
        narrow.set_weights(arrays)
        return narrow, seconds

    def tfmot(self) -> Row:
        """Set the smallest weights to zero with tfmot while training two epochs more."""
        arrays, seconds = self.other(self.arguments.tfmot, "compare_tfmot.py")
        model = keras.models.clone_model(self.wide)
        model.set_weights(arrays)
        return self.measured(model, seconds)

    def other(self, python: str, script: str) -> tuple[list[np.ndarray], float]:
        """Run a script in another environment, on the weights; return the new ones and seconds."""
        given, made = self.folder / "given.npz", self.folder / "made.npz"
        arrays = {f"w{k}": array for k, array in enumerate(self.wide.get_weights())}
        np.savez(given, x=self.train.x, y=self.train.y, limit=self.limit, **arrays)
        subprocess.run([python, HERE / script, given, made], check=True, capture_output=True)
        with np.load(made) as found:
            return [found[name] for name in arrays], float(found["seconds"])


def sizes(path: pathlib.Path) -> tuple[float, float]:
    """Return the kB of a file, as it is and packed."""
    content = path.read_bytes()
    return len(content) / 1e3, len(gzip.compress(content)) / 1e3


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--torch", help="Python of an environment with torch and torch-pruning")
    parser.add_argument("--tfmot", help="Python of an environment with tf_keras and tfmot")
    nets.add_arguments(parser)
    arguments = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    comparisons = [Comparison(seed, arguments) for seed in arguments.seeds]
    heading = "tool", "parameters", "accuracy, %", "seconds", "file, kB", "gzip, kB", "µs"
    print("| " + " | ".join(heading) + " |")
    print("|---" * len(heading) + "|")
    tables = [each.tools() for each in comparisons]
    for name in tables[0]:
        rows = [dataclasses.astuple(tools[name]()) for tools in tables]
        parameters, accuracy, seconds, size, packed, latency = np.mean(rows, axis=0)
        timed = "-" if np.isnan(latency) else f"{latency:.1f}"
        cells = [name, f"{parameters:,.0f}", f"{accuracy:.2f}", f"{seconds:.1f}", f"{size:,.0f}"]
        print("| " + " | ".join([*cells, f"{packed:,.0f}", timed]) + " |", flush=True)
    for name in ("torch", "tfmot"):
        if not getattr(arguments, name):
            print(f"left out: {name}, because --{name} isn't given")


if __name__ == "__main__":
    main()
