"""Draw inputs of several kinds and scales, on which two models can be compared without data.

No single distribution can be trusted. The largest change over all kinds is a guard: it was above
the change on real inputs nearly everywhere (docs/research/measurements.md).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from keras_dfprune.graph.calls import Call, Tensor
from keras_dfprune.inputs.draws import input_sampler
from keras_dfprune.inputs.model_inputs import InputSpec, Samples, numpy_dtype, read_inputs
from keras_dfprune.inputs.sample_inputs import draw_samples
from keras_dfprune.inputs.smooth_noise import smooth_noise
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.moments.prior import Prior, read_prior
from keras_dfprune.surgery.group_view import view_group
from keras_dfprune.surgery.weights import LayerStates

# Scales of normal draws, for inputs of unknown scale, and for inputs that a Normalization or a
# Rescaling brings to a known scale.
_UNKNOWN_SCALES = (0.1, 1.0, 10.0, 100.0)
_KNOWN_SCALES = (0.5, 1.0, 2.0)
# Share of the features that are not 0 in a sparse draw.
_NONZERO = 0.1


@dataclasses.dataclass(frozen=True)
class _Range:
    """Affine map from draws of mean 0 and deviation 1 to the values of an input.

    Attributes:
        centre, spread: Arrays that broadcast against the input: `centre + spread * draw`.
        known: Whether the model itself says so.
        integers: Number of different values of an integer input, or None for floats.
    """

    centre: np.ndarray
    spread: np.ndarray
    known: bool = False
    integers: int | None = None


def guard_draws(located: LocatedModel, rows: int, seed: int = 0) -> dict[str, Samples]:
    """Draw sets of inputs of every kind that suits the model.

    Normal draws at several scales, sparse positive ones, smooth ones for images and sequences, and
    draws from the prior. Token ids are drawn from the range of the embedding that takes them.

    Args:
        located: The model with its groups.
        rows: Rows of each set.
        seed: Seed of the draws.

    Returns:
        Rows of every input, by the name of the kind.

    Raises:
        ValueError: If the model runs at none of the lengths tried for axes of unknown length.
    """
    specs, shapes = read_inputs(located.model), draw_samples(located.model)
    ranges = {
        tensor.name: _range_of(tensor, located.graph.calls) for tensor in located.graph.inputs
    }
    generator = np.random.default_rng(seed)

    def draw(kind: str, scale: float) -> Samples:
        return {
            spec.name: _draw(
                spec,
                (rows, *shapes[spec.name].shape[1:]),
                ranges[spec.name],
                kind,
                scale,
                generator,
            )
            for spec in specs
        }

    if all(limits.integers is not None for limits in ranges.values()):
        return {f"random values {number}": draw("normal", 1.0) for number in (1, 2, 3)}
    known = all(limits.known or limits.integers is not None for limits in ranges.values())
    sets = {
        f"normal, times {scale:g}": draw("normal", scale)
        for scale in (_KNOWN_SCALES if known else _UNKNOWN_SCALES)
    }
    sets["sparse and positive"] = draw("sparse", 1.0)
    if any(len(spec.shape) > 2 for spec in specs):
        sets["smooth"] = draw("smooth", 1.0)
    prior = _prior_draws(located, specs, rows, seed)
    if prior:
        sets["prior"] = {**sets["normal, times 1"], **prior}
    return sets


def _range_of(tensor: Tensor, calls: Sequence[Call]) -> _Range:
    """Return the range of an input, from the layers that take it."""
    zero, one = np.zeros(()), np.ones(())
    takers = [call.operation for call in calls if tensor in call.inputs]
    if "float" not in tensor.dtype:
        sizes = [taker.input_dim for taker in takers if isinstance(taker, keras.layers.Embedding)]
        return _Range(zero, one, known=True, integers=min(sizes, default=2))
    for taker in takers:
        if isinstance(taker, keras.layers.Embedding):
            return _Range(zero, one, known=True, integers=taker.input_dim)
        if isinstance(taker, keras.layers.Normalization) and not taker.invert:
            if taker.mean is not None and np.size(taker.mean):
                mean, variance = np.asarray(taker.mean), np.asarray(taker.variance)
                return _Range(mean, np.sqrt(np.maximum(variance, 0.0)), known=True)
        if isinstance(taker, keras.layers.Rescaling):
            scale, offset = np.asarray(taker.scale), np.asarray(taker.offset)
            # What comes out of a Rescaling lies in [0, 1] or [-1, 1].
            signed = np.any(offset != 0.0)
            middle, half = (0.0, 0.5) if signed else (0.5, 0.25)
            return _Range((middle - offset) / scale, half / np.abs(scale), known=True)
    return _Range(zero, one)


def _draw(
    spec: InputSpec,
    shape: tuple[int, ...],
    limits: _Range,
    kind: str,
    scale: float,
    generator: np.random.Generator,
) -> np.ndarray:
    if spec.dtype == "string":
        return generator.choice(np.array(["a", "b"]), shape)
    if limits.integers is not None:
        return generator.integers(0, limits.integers, shape).astype(numpy_dtype(spec.dtype))
    if kind == "sparse":
        draws = np.abs(generator.standard_normal(shape)) * (generator.random(shape) < _NONZERO)
        draws /= math.sqrt(_NONZERO)
    elif kind == "smooth":
        draws = smooth_noise(shape[1:], shape[0], generator)
    else:
        draws = generator.standard_normal(shape)
    values = limits.centre + limits.spread * scale * draws
    return values.astype(numpy_dtype(spec.dtype))


def _prior_draws(
    located: LocatedModel, specs: Sequence[InputSpec], rows: int, seed: int
) -> Samples:
    """Draw the inputs that a group of Dense units takes as they are from the prior."""
    layout, prior = located.layout, read_prior("weights", "auto")
    drawn: Samples = {}
    for spec in specs:
        names = [
            name
            for name, group in layout.groups.items()
            if layout.origins.get(name) == spec.name
            and len(spec.shape) == 2
            and len(group.producers) == 1
        ]
        if names:
            drawn[spec.name] = _of_group(located, names[0], prior, rows, seed, spec)
    return drawn


def _of_group(
    located: LocatedModel, name: str, prior: Prior, rows: int, seed: int, spec: InputSpec
) -> np.ndarray:
    layout = located.layout
    view = view_group(layout.groups[name], layout, LayerStates(layout))
    draws = input_sampler(view, prior)(rows, np.array([seed, 1]))
    return np.asarray(draws).astype(numpy_dtype(spec.dtype))


def stacked(sets: Mapping[str, Samples]) -> Samples:
    """Return the rows of all sets below each other."""
    names = next(iter(sets.values()))
    return {name: np.concatenate([rows[name] for rows in sets.values()]) for name in names}
