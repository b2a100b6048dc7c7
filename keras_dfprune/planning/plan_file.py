"""Write a plan to one `.npz` file without pickled objects, and read it back.

The file holds arrays, and a header in JSON.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from keras_dfprune.locate.groups import Refusal
from keras_dfprune.methods.heads import HeadMerge
from keras_dfprune.methods.merge import (
    CentroidMerge,
    ChosenUnits,
    LinearMerge,
    Removal,
    SurvivorMerge,
)
from keras_dfprune.planning.group_plan import GroupCurve, GroupPlan
from keras_dfprune.planning.measure import OutputChange
from keras_dfprune.planning.plan_data import PlanData
from keras_dfprune.planning.width_count import WidthCount
from keras_dfprune.report.archive import opened_archive
from keras_dfprune.report.staging import written

_FORMAT = "keras_dfprune plan"
_VERSION = 5
_MERGES: dict[str, type[Removal]] = {
    "survivor": SurvivorMerge,
    "linear": LinearMerge,
    "centroid": CentroidMerge,
    "chosen": ChosenUnits,
    "heads": HeadMerge,
}
_CURVE_FIELDS = ("measure", "scale", "lossless", "automatic", "cutoff")
_PLAIN_FIELDS = (
    "method",
    "model_name",
    "fingerprint",
    "refine_steps",
    "seed",
    "used_data",
    "shared_out",
)


def write_plan(path: str | os.PathLike[str], plan: PlanData) -> None:
    """Write a plan to one file, whole or not at all.

    Args:
        path: The file.
        plan: The plan.
    """
    arrays: dict[str, np.ndarray] = {}
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "groups": [_pack(group, f"group{k}", arrays) for k, group in enumerate(plan.groups)],
        "counts": [count.to_config() for count in plan.counts],
        "measured": [dataclasses.asdict(output) for output in plan.measured],
        "refusals": [dataclasses.asdict(refusal) for refusal in plan.refusals],
        **{name: getattr(plan, name) for name in (*_PLAIN_FIELDS, "parameters", "notes")},
    }
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with written(path) as staged, staged.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{"header": text, **arrays})


def read_plan(path: str | os.PathLike[str]) -> PlanData:
    """Read a file that `write_plan` wrote.

    Args:
        path: The file.

    Raises:
        ValueError: If the file is no plan, is damaged, or was written by a newer version.
    """
    with open(path, "rb") as file:
        try:
            return _read(file)
        except Exception as error:  # whatever zipfile, zlib, numpy and json raise
            raise ValueError(f"'{path}' is no pruning plan that can be read: {error}") from error


def _pack(group: GroupPlan, prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Put a group's arrays into `arrays` and return the rest for the header."""
    kind = next(name for name, merge in _MERGES.items() if isinstance(group.merge, merge))
    for field in dataclasses.fields(group.merge):
        arrays[f"{prefix}.{field.name}"] = getattr(group.merge, field.name)
    curve = group.curve
    arrays[f"{prefix}.order"], arrays[f"{prefix}.costs"] = curve.order, curve.costs
    if curve.histogram is not None:
        arrays[f"{prefix}.counts"], arrays[f"{prefix}.edges"] = curve.histogram
    return {
        "prefix": prefix,
        "layer": group.layer,
        "layers": group.layers,
        "units": group.units,
        "parameters": group.parameters,
        "merge": kind,
        "predicted_error": group.predicted_error,
        "histogram": curve.histogram is not None,
        "note": group.note,
        "multiple": group.multiple,
        "blocks": group.blocks,
        "kind": group.kind,
        "curve": {name: getattr(curve, name) for name in _CURVE_FIELDS},
    }


def _read(file: BinaryIO) -> PlanData:
    with opened_archive(file) as arrays:
        header = json.loads(bytes(arrays["header"]))
        if header["format"] != _FORMAT:
            raise ValueError("it has another header")
        if header["version"] != _VERSION:
            raise ValueError(f"it has version {header['version']} and not {_VERSION}; plan again")
        return PlanData(
            groups=tuple(_unpack(entry, arrays) for entry in header["groups"]),
            counts=tuple(map(WidthCount.from_config, header["counts"])),
            measured=tuple(OutputChange(**entry) for entry in header["measured"]),
            refusals=tuple(Refusal(**entry) for entry in header["refusals"]),
            parameters=tuple(header["parameters"]),
            notes=tuple(header["notes"]),
            **{name: header[name] for name in _PLAIN_FIELDS},
        )


def _unpack(entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> GroupPlan:
    prefix, kind = entry["prefix"], _MERGES[entry["merge"]]
    fields = {field.name: arrays[f"{prefix}.{field.name}"] for field in dataclasses.fields(kind)}
    histogram = None
    if entry["histogram"]:
        histogram = (arrays[f"{prefix}.counts"], arrays[f"{prefix}.edges"])
    return GroupPlan(
        layer=entry["layer"],
        layers=tuple(entry["layers"]),
        units=entry["units"],
        merge=kind(**fields),
        parameters=tuple(entry["parameters"]),
        curve=GroupCurve(
            order=arrays[f"{prefix}.order"],
            costs=arrays[f"{prefix}.costs"],
            histogram=histogram,
            **entry["curve"],
        ),
        predicted_error=entry["predicted_error"],
        note=entry["note"],
        multiple=entry["multiple"],
        blocks=entry["blocks"],
        kind=entry["kind"],
    )
