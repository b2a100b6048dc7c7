"""Measure what a model costs: the public function `profile`."""

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import keras

from keras_dfprune.exporting.litert import LiteRTFile
from keras_dfprune.exporting.result import ExportError
from keras_dfprune.graph.calls import Graph
from keras_dfprune.graph.keras_private import functional_core
from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.measure.latency import Latency, measure_latency
from keras_dfprune.measure.opened import Opened, open_source
from keras_dfprune.rules.activation_memory import peak_activation_bytes
from keras_dfprune.rules.multiply_adds import (
    estimated_layers,
    multiply_adds,
    products_of_tensors,
)

_NO_LAYERS = "the file doesn't hold the layers; profile the Keras model that it was made from"
_SUBCLASSED = (
    "the graph of a subclassed model can't be seen; make it functional with "
    "keras_dfprune.functionalize"
)


@dataclasses.dataclass(frozen=True)
class Profile:
    """Costs of a model or file, as `profile` measures them. None stands for what can't be known.

    Attributes:
        name: Name of the model, or path of the file.
        format: `"model"` for a Keras model in memory, else `"keras"`, `"tflite"` or
            `"saved_model"`.
        parameters: Number of parameters, biases and statistics included. Of a SavedModel the
            entries of the variables that it reads.
        multiply_adds: Multiply-adds of all kernels for one row of the inputs. Products of two
            tensors, as in attention, and elementwise arithmetic don't count.
        bytes: Size of the file or folder; of a model in memory, of its weights.
        peak_activation_bytes: Largest sum, in bytes, of the tensors alive at one time for one row,
            when the layers run in order: the inputs and outputs of a layer and what later layers
            need. Weights and memory inside a layer don't count.
        latency: Time that LiteRT takes on this machine.
        notes: By the name of an attribute, why it is unknown, or what limits it.
    """

    name: str
    format: str
    parameters: int | None
    multiply_adds: int | None
    bytes: int
    peak_activation_bytes: int | None
    latency: Latency | None
    notes: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes in a dict that `json.dumps` takes; `latency` is a dict or None."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        values = {
            "parameters": _number(self.parameters),
            "multiply_adds": _number(self.multiply_adds),
            "bytes": _number(self.bytes),
            "peak_activation_bytes": _number(self.peak_activation_bytes),
            "latency": None if self.latency is None else str(self.latency),
        }
        rows = [(_HEADINGS[key], _cell(text, self.notes.get(key))) for key, text in values.items()]
        width = max(len(heading) for heading, _ in rows)
        lines = [f"{heading:<{width}}  {text}" for heading, text in rows]
        return "\n".join([f"Profile of '{self.name}' ({_FORMATS[self.format]})", "", *lines])


_FORMATS = {
    "model": "Keras model in memory",
    "keras": ".keras file",
    "tflite": "LiteRT file",
    "saved_model": "SavedModel",
}
_HEADINGS = {
    "parameters": "Parameters",
    "multiply_adds": "Multiply-adds of a row",
    "bytes": "Bytes",
    "peak_activation_bytes": "Peak activation bytes of a row",
    "latency": "LiteRT latency",
}


def profile(
    model_or_file: keras.Model | str | os.PathLike[str], *, latency: bool | None = None
) -> Profile:
    """Measure what a model or file costs: parameters, arithmetic, bytes, memory and time.

    Args:
        model_or_file: A built Keras model, or the path of a `.keras` file, a `.tflite` file or a
            SavedModel folder. A `.keras` file is loaded in Keras's safe mode.
        latency: Whether LiteRT is timed on this machine, which takes about a second. True also
            converts a Keras model or `.keras` file to a temporary `.tflite` file in float32 for
            it. None (default): of `.tflite` files only.

    Returns:
        A `Profile`; print it for a table. What can't be known is None, and `notes` says why.

    Raises:
        TypeError: If `model_or_file` is neither a Keras 3 model nor a path.
        FileNotFoundError: If there is no such file.
        ValueError: If the model isn't built, or the file is of another kind or can't be read.

    Examples:
        >>> import keras, keras_dfprune as dfprune
        >>> model = keras.Sequential(
        ...     [keras.Input((8,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(3)],
        ...     name="net",
        ... )
        >>> print(dfprune.profile(model))
        Profile of 'net' (Keras model in memory)
        <BLANKLINE>
        Parameters                      243
        Multiply-adds of a row          220
        Bytes                           972
        Peak activation bytes of a row  112
        LiteRT latency                  unknown: latency=True converts the model and measures it
    """
    opened = open_source(model_or_file, "model_or_file")
    notes: dict[str, str] = {}
    graph = _graph(opened, notes)
    return Profile(
        name=opened.name,
        format=opened.format,
        parameters=_parameters(opened, notes),
        multiply_adds=None if graph is None else _multiply_adds(graph, notes),
        bytes=opened.bytes,
        peak_activation_bytes=None if graph is None else _peak(graph, notes),
        latency=_latency(opened, latency, notes),
        notes=notes,
    )


def _parameters(opened: Opened, notes: dict[str, str]) -> int | None:
    if opened.format == "tflite":
        notes["parameters"] = _NO_LAYERS
    elif opened.format == "saved_model":
        notes["parameters"] = (
            "its weights are constants in the graph"
            if opened.parameters is None
            else "in variables; constants in the graph don't count"
        )
    return opened.parameters


def _graph(opened: Opened, notes: dict[str, str]) -> Graph | None:
    """Return the graph of a Keras model; None, with notes, where there is none to be seen."""
    if opened.model is not None and functional_core(opened.model) is not None:
        return read_graph(opened.model)
    reason = _NO_LAYERS if opened.model is None else _SUBCLASSED
    notes.update(multiply_adds=reason, peak_activation_bytes=reason)
    return None


def _multiply_adds(graph: Graph, notes: dict[str, str]) -> int | None:
    try:
        count = multiply_adds(graph.calls)
        estimated = estimated_layers(graph.calls)
    except ValueError as error:
        notes["multiply_adds"] = str(error)
        return None
    remarks = []
    if estimated:
        remarks.append(f"an estimate, because no rule counts {_names(estimated)}")
    left_out = products_of_tensors(graph.calls)
    if left_out:
        remarks.append(f"without the products of two tensors in {_names(left_out)}")
    if remarks:
        notes["multiply_adds"] = "; ".join(remarks)
    return count


def _peak(graph: Graph, notes: dict[str, str]) -> int | None:
    try:
        return peak_activation_bytes(graph.calls, graph.inputs, graph.outputs)
    except ValueError as error:
        notes["peak_activation_bytes"] = str(error)
        return None


def _latency(opened: Opened, wanted: bool | None, notes: dict[str, str]) -> Latency | None:
    if wanted is False:
        notes["latency"] = "latency=False"
        return None
    try:
        if opened.format == "tflite" and opened.path is not None:
            return measure_latency(opened.path)
        if opened.model is None:
            notes["latency"] = "LiteRT doesn't run a SavedModel; profile a .tflite file"
            return None
        if wanted is None:
            notes["latency"] = "latency=True converts the model and measures it"
            return None
        return _converted_latency(opened.model)
    except (ExportError, ValueError) as error:
        notes["latency"] = str(error)
        return None


def _converted_latency(model: keras.Model) -> Latency:
    file_format = LiteRTFile()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        file_format.write(file_format.prepare(model), path)
        return measure_latency(path)


def _names(layers: list[str]) -> str:
    """Return the first names of a list, and how many follow."""
    shown = ", ".join(f"'{layer}'" for layer in layers[:3])
    return shown if len(layers) <= 3 else f"{shown} and {len(layers) - 3} more"


def _number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _cell(text: str | None, note: str | None) -> str:
    if text is None:
        return f"unknown: {note}"
    return text if note is None else f"{text} ({note})"
