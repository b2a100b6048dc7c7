"""Curves and a budget into a frozen plan: which units go, and who stands in for them.

A plan is data. `PruningPlan.apply` makes the narrow model from it; `save` writes it to one file.
"""

import dataclasses
import json
import os
import zipfile
from typing import Any, BinaryIO

import keras
import numpy as np

from keras_dfprune import report
from keras_dfprune.centroids import carry_out
from keras_dfprune.distill import distill
from keras_dfprune.fingerprint import difference, layer_digests
from keras_dfprune.graph import read_graph
from keras_dfprune.layout import Layout, Refusal
from keras_dfprune.locate import locate
from keras_dfprune.merge import CentroidMerge, LinearMerge, SurvivorMerge, UnitMerge
from keras_dfprune.model_check import check_model
from keras_dfprune.optimizer import carry_compile_state
from keras_dfprune.progress import Progress, Steps
from keras_dfprune.rebuild import rebuild
from keras_dfprune.states import States
from keras_dfprune.verify import verify as verify_model

_VERSION = 1
_MERGES = {"survivor": SurvivorMerge, "linear": LinearMerge, "centroid": CentroidMerge}


@dataclasses.dataclass(frozen=True, eq=False)
class GroupPlan:
    """What happens to one group of units.

    Attributes:
        layer: Path of the first producer.
        layers: Paths of all producers.
        units: Number of units before.
        merge: The `UnitMerge`.
        parameters: Parameters of the producers before and after, biases included.
        saliency: Float array: the cost of each removal along the whole path, normally down to
            one unit; the first `len(removed)` are those made.
        cutoff: The cost at which the automatic cut-off lies, or None.
        predicted_error: Expected squared change over the variance at the group's consumers, or
            None where the method predicts none.
        histogram: Counts and bin edges behind `cutoff`, or None.
        note: A sentence for the report, or None.
        lossless: How many of the first removals change nothing.
    """

    layer: str
    layers: tuple[str, ...]
    units: int
    merge: UnitMerge
    parameters: tuple[int, int]
    saliency: np.ndarray
    cutoff: float | None = None
    predicted_error: float | None = None
    histogram: tuple[np.ndarray, np.ndarray] | None = None
    note: str | None = None
    lossless: int = 0

    @property
    def kept(self) -> np.ndarray:
        """Int array, shape `(kept,)`: ascending indices of the units that stay."""
        return self.merge.kept

    @property
    def removed(self) -> np.ndarray:
        """Int array, shape `(removed,)`: the units that go, in the order of their removal."""
        return self.merge.removed

    @property
    def survivor(self) -> np.ndarray:
        """Int array, shape `(removed,)`: the kept unit that stands in; -1 for none or many."""
        if not isinstance(self.merge, SurvivorMerge):
            return np.full(len(self.removed), -1)
        return np.where(self.merge.survivor >= 0, self.kept[self.merge.survivor], -1)


@dataclasses.dataclass(frozen=True, eq=False)
class PruningPlan:
    """Which units of a model go; made by `keras_dfprune.plan`.

    Attributes:
        groups: A `GroupPlan` for each group that was asked for, in the order of the graph.
        refusals: A `Refusal` for each layer that can't be pruned.
        parameters: Parameters of the model before and after, biases included.
        method: Name and settings of the method.
        model_name: Name of the model.
        fingerprint: Digests of the model's weights by layer.
        notes: Further sentences for the report.
        refinement: Settings for the refinement behind the merge, or None.
        verify: Whether `apply` compares its result with the wide twin; not saved.
        verbose: Whether `apply` shows its progress; not saved.
    """

    groups: tuple[GroupPlan, ...]
    refusals: tuple[Refusal, ...]
    parameters: tuple[int, int]
    method: dict[str, Any]
    model_name: str
    fingerprint: dict[str, list]
    notes: tuple[str, ...] = ()
    refinement: dict[str, Any] | None = None
    verify: bool = True
    verbose: int = 0

    def __str__(self) -> str:
        return report.render(self)

    def __repr__(self) -> str:  # the arrays inside would fill the screen
        before, after = self.parameters
        return f"<PruningPlan for '{self.model_name}': {before:,} -> {after:,} parameters>"

    def apply(self, model: keras.Model, *, verify: bool | None = None) -> keras.Model:
        """Makes the narrow model.

        Args:
            model: The model that was planned for; it is not changed.
            verify: Whether to compare the result with the wide twin; None: as planned.

        Returns:
            A new model of the same kind, compiled as `model` was.

        Raises:
            TypeError: If `model` is not a Keras 3 model.
            ValueError: If the plan was made for another model; the message says what differs.
            VerificationError: If the result doesn't compute what the plan says.
        """
        check_model(model)
        graph = read_graph(model)
        layout = locate(graph)
        apart = difference(self.fingerprint, layer_digests(graph)) or self._misfit(layout)
        if apart:
            raise ValueError(
                f"This plan was made for another model than '{model.name}': {apart}. Make a new "
                "plan with `keras_dfprune.plan(model, ...)`."
            )
        states, progress = States(layout), Progress(self.verbose)
        for group in progress.over("Merging", self.groups):
            carry_out(layout.groups[group.layer], group.merge, states)
        rebuilt = rebuild(model, graph, layout, states, progress)
        merges = {group.layer: group.merge for group in self.groups}
        if self.verify if verify is None else verify:
            exact = all(len(group.removed) <= group.lossless for group in self.groups)
            narrow = rebuilt.model
            verify_model(model, narrow, graph, layout, merges, lossless=exact, progress=progress)
        if self.refinement is not None:
            steps = Steps("Refining", self.refinement["steps"], self.verbose)
            distill(graph, read_graph(rebuilt.model), layout, merges, self.refinement, steps)
        carry_compile_state(model, rebuilt.model, rebuilt.variables)
        return rebuilt.model

    def _misfit(self, layout: Layout) -> str | None:
        """The first group that a model with the same weights doesn't have."""
        for group in self.groups:
            found = layout.groups.get(group.layer)
            if found is None or found.units != group.units or group.merge.units != group.units:
                return f"layer {group.layer} has no {group.units} units there that can be pruned"
        return None

    def save(self, path: str | os.PathLike) -> None:
        """Writes the plan to one `.npz` file without pickled objects.

        Args:
            path: The file; `.npz` is the usual ending.
        """
        arrays: dict[str, np.ndarray] = {}
        groups = [_pack(group, f"group{k}", arrays) for k, group in enumerate(self.groups)]
        header = {
            "format": "keras_dfprune plan",
            "version": _VERSION,
            "groups": groups,
            "refusals": [dataclasses.asdict(refusal) for refusal in self.refusals],
            "parameters": self.parameters,
            "method": self.method,
            "model_name": self.model_name,
            "fingerprint": self.fingerprint,
            "notes": self.notes,
            "refinement": self.refinement,
        }
        text = np.frombuffer(json.dumps(header).encode(), np.uint8)
        with open(path, "wb") as file:
            np.savez_compressed(file, header=text, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "PruningPlan":
        """Reads a plan that `save` wrote.

        Args:
            path: The file.

        Raises:
            ValueError: If the file is no plan, is damaged, or comes from a newer version.
        """
        with open(path, "rb") as file:
            try:
                return _read(cls, file)
            except Exception as error:  # whatever zipfile, zlib, numpy and json raise
                raise ValueError(
                    f"'{path}' is no pruning plan that can be read: {error}"
                ) from error

    def plot(self, path: str | os.PathLike) -> None:
        """Draws each group's saliency curve and histogram, the cut-off marked.

        Args:
            path: The picture; the ending decides the format.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        from keras_dfprune.plot import plot_plan  # matplotlib is an extra

        plot_plan(self, path)


def _pack(group: GroupPlan, prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    kind = next(name for name, merge in _MERGES.items() if isinstance(group.merge, merge))
    fields = [field.name for field in dataclasses.fields(group.merge)]
    for field in fields:
        arrays[f"{prefix}.{field}"] = getattr(group.merge, field)
    arrays[f"{prefix}.saliency"] = group.saliency
    if group.histogram is not None:
        arrays[f"{prefix}.counts"], arrays[f"{prefix}.edges"] = group.histogram
    return {
        "prefix": prefix,
        "layer": group.layer,
        "layers": group.layers,
        "units": group.units,
        "parameters": group.parameters,
        "merge": kind,
        "cutoff": group.cutoff,
        "predicted_error": group.predicted_error,
        "histogram": group.histogram is not None,
        "note": group.note,
        "lossless": group.lossless,
    }


def _read(cls: type[PruningPlan], file: BinaryIO) -> PruningPlan:
    if not zipfile.is_zipfile(file):  # NumPy would advise to unpickle it
        raise ValueError("it is no .npz file, or is cut short")
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        header = json.loads(bytes(arrays["header"]))
        if header["format"] != "keras_dfprune plan":
            raise ValueError("it has another header")
        if header["version"] > _VERSION:
            raise ValueError(f"it has version {header['version']}, newer than {_VERSION}")
        return cls(
            groups=tuple(_unpack(entry, arrays) for entry in header["groups"]),
            refusals=tuple(Refusal(**entry) for entry in header["refusals"]),
            parameters=tuple(header["parameters"]),
            method=header["method"],
            model_name=header["model_name"],
            fingerprint=header["fingerprint"],
            notes=tuple(header["notes"]),
            refinement=header["refinement"],
        )


def _unpack(entry: dict[str, Any], file) -> GroupPlan:
    prefix, kind = entry["prefix"], _MERGES[entry["merge"]]
    fields = {field.name: file[f"{prefix}.{field.name}"] for field in dataclasses.fields(kind)}
    histogram = None
    if entry["histogram"]:
        histogram = (file[f"{prefix}.counts"], file[f"{prefix}.edges"])
    return GroupPlan(
        layer=entry["layer"],
        layers=tuple(entry["layers"]),
        units=entry["units"],
        merge=kind(**fields),
        parameters=tuple(entry["parameters"]),
        saliency=file[f"{prefix}.saliency"],
        cutoff=entry["cutoff"],
        predicted_error=entry["predicted_error"],
        histogram=histogram,
        note=entry["note"],
        lossless=entry["lossless"],
    )
