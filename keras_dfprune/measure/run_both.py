"""Run two models or files on the same rows, under the names that the first one uses."""

import dataclasses
from typing import Any

import numpy as np

from keras_dfprune.inputs.model_inputs import (
    InputSpec,
    Samples,
    batches_of,
    is_same_shape,
    kind_of_dtype,
    numpy_dtype,
)
from keras_dfprune.measure.opened import Opened
from keras_dfprune.report.short_message import short_message

Outputs = dict[str, np.ndarray]
_BATCH = 64  # rows at once; an image network of 224 x 224 pixels then needs some 2 GB


def common_inputs(before: Opened, after: Opened) -> list[tuple[InputSpec, InputSpec]]:
    """Return the inputs of two models in pairs, in the first one's order.

    Of an axis whose length one of them leaves open, the first of each pair has the other's length.

    Raises:
        ValueError: If they don't take the same inputs.
    """
    first, second = before.inputs(), after.inputs()
    partner = _pairs(
        [spec.name for spec in first], [spec.name for spec in second], before, after, "inputs"
    )
    by_name = {spec.name: spec for spec in second}
    pairs = [(spec, by_name[partner[spec.name]]) for spec in first]
    for spec, other in pairs:
        is_same_kind = kind_of_dtype(spec.dtype) == kind_of_dtype(other.dtype)
        if not (is_same_shape(spec.shape[1:], other.shape[1:]) and is_same_kind):
            raise ValueError(
                "Expected `before` and `after` with inputs of the same shapes and dtypes. "
                f"Received: before={spec.shape} of {spec.dtype}, after={other.shape} of "
                f"{other.dtype}, for input '{spec.name}'."
            )
    return [(_narrowed(spec, other), other) for spec, other in pairs]


def run_both(
    before: Opened,
    after: Opened,
    inputs: list[tuple[InputSpec, InputSpec]],
    samples: Samples,
) -> tuple[Outputs, Outputs]:
    """Return the outputs of both, under the names that the first one gives them.

    Args:
        before: The first model.
        after: The second one.
        inputs: What `common_inputs` returns.
        samples: Rows by the names of the first one's inputs.

    Raises:
        ValueError: If one of them can't be run, or if their outputs have other names or shapes.
    """
    renamed = {
        other.name: samples[spec.name]
        if other.dtype == "string"
        else samples[spec.name].astype(numpy_dtype(other.dtype))
        for spec, other in inputs
    }
    expected = _run(before, samples)
    received = _run(after, renamed)
    partner = _pairs(list(expected), list(received), before, after, "outputs")
    received = {name: received[partner[name]] for name in expected}
    for name, wanted in expected.items():
        if received[name].shape != wanted.shape:
            raise ValueError(
                "Expected `before` and `after` with outputs of the same shapes. Received: "
                f"before={wanted.shape}, after={received[name].shape}, for output '{name}'."
            )
    return expected, received


def _run(opened: Opened, samples: Samples) -> Outputs:
    count = len(next(iter(samples.values())))
    run = opened.runner()
    try:
        parts = [run(batch) for batch in batches_of(opened.inputs(), samples, _BATCH)]
    except Exception as error:  # whatever a layer or an interpreter raises on values or shapes
        raise ValueError(
            f"'{opened.name}' can't be run on `data`: {short_message(error)}"
        ) from error
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def _pairs(
    first: list[str], second: list[str], before: Opened, after: Opened, kind: str
) -> dict[str, str]:
    """Return the second model's name of each input or output of the first one.

    Names that differ are paired in order, where there is one: files list their inputs by name.
    """
    if set(first) == set(second):
        return dict(zip(first, first, strict=True))
    in_order = len(first) == 1 or (before.model is not None and after.model is not None)
    if len(first) == len(second) and in_order:
        return dict(zip(first, second, strict=True))
    raise ValueError(
        f"Expected `before` and `after` with the same {kind}. "
        f"Received: before={sorted(first)}, after={sorted(second)}."
    )


def _narrowed(spec: InputSpec, other: InputSpec) -> InputSpec:
    lengths: list[Any] = [
        b if a is None else a for a, b in zip(spec.shape[1:], other.shape[1:], strict=True)
    ]
    return dataclasses.replace(spec, shape=(*spec.shape[:1], *lengths))
