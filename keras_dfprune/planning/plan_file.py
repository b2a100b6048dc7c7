"""A plan into one `.npz` file without pickled objects, and back: arrays beside a header in JSON."""

import dataclasses
import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from keras_dfprune.locate.groups import Refusal
from keras_dfprune.methods.merge import CentroidMerge, LinearMerge, SurvivorMerge
from keras_dfprune.planning.group_plan import GroupPlan

_VERSION = 1
_MERGES = {"survivor": SurvivorMerge, "linear": LinearMerge, "centroid": CentroidMerge}
_AS_THEY_ARE = ("method", "model_name", "fingerprint", "refinement")


def write_plan(path: str | os.PathLike, fields: Mapping[str, Any]) -> None:
    """Writes a plan to one file.

    Args:
        path: The file.
        fields: The attributes of a `PruningPlan`.
    """
    arrays: dict[str, np.ndarray] = {}
    groups = [_pack(group, f"group{k}", arrays) for k, group in enumerate(fields["groups"])]
    header = {
        "format": "keras_dfprune plan",
        "version": _VERSION,
        "groups": groups,
        "refusals": [dataclasses.asdict(refusal) for refusal in fields["refusals"]],
        **{name: fields[name] for name in (*_AS_THEY_ARE, "parameters", "notes")},
    }
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with open(path, "wb") as file:
        np.savez_compressed(file, header=text, **arrays)


def read_plan(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a file that `write_plan` wrote.

    Args:
        path: The file.

    Returns:
        The attributes of a `PruningPlan`.

    Raises:
        ValueError: If the file is no plan, is damaged, or comes from a newer version.
    """
    with open(path, "rb") as file:
        try:
            return _read(file)
        except Exception as error:  # whatever zipfile, zlib, numpy and json raise
            raise ValueError(f"'{path}' is no pruning plan that can be read: {error}") from error


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


def _read(file: BinaryIO) -> dict[str, Any]:
    if not zipfile.is_zipfile(file):  # NumPy would advise to unpickle it
        raise ValueError("it is no .npz file, or is cut short")
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        header = json.loads(bytes(arrays["header"]))
        if header["format"] != "keras_dfprune plan":
            raise ValueError("it has another header")
        if header["version"] > _VERSION:
            raise ValueError(f"it has version {header['version']}, newer than {_VERSION}")
        return {
            **{name: header[name] for name in _AS_THEY_ARE},
            "groups": tuple(_unpack(entry, arrays) for entry in header["groups"]),
            "refusals": tuple(Refusal(**entry) for entry in header["refusals"]),
            "parameters": tuple(header["parameters"]),
            "notes": tuple(header["notes"]),
        }


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
