"""Measure an element-wise callable: its largest slope, its kinks, whether it is monotone.

The measurement is deterministic, in float32 and eager. Slopes are difference quotients at several
spacings: at a jump they grow as the spacing shrinks.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from keras_dfprune.rules.activation_check import CHECKED, EPS, NotElementwise, call

_REACH = 32.0  # the function is measured on [-32, 32]; 20 is a usual clip
_FINE, _COARSE = 2.0**-9, 2.0**-6  # spacings; powers of two are exact in float32
_ZOOM = 2.0**-12  # below it float32 rounding of values near 1 reaches 0.1 % of a slope of 1
_FAR = np.array([-256.0, -255.0, -128.0, -127.0, 127.0, 128.0, 255.0, 256.0])
_GROWTH = 1.05  # a slope that grows by more when the spacing shrinks 8-fold has not converged
_FAR_GROWTH = 1.01  # ... or when the range doubles: x**1.02 grows by 1.4 %
_MOST_KINKS = 64  # more kinks are a staircase (a cast to float16, say): no help to a quadrature
_MARGIN = 1.01  # difference quotients are lower bounds; at these spacings by far less than 1 %

LinearPieces: TypeAlias = tuple[tuple[float, float], ...]
Curve: TypeAlias = Callable[[np.ndarray], np.ndarray]  # from any number of points to their values


@dataclasses.dataclass(frozen=True)
class Measured:
    """Properties of a function as measured; the fields are those of `activations.Activation`."""

    slope: float
    monotone: bool
    homogeneous: bool
    at_zero: float
    kinks: tuple[float, ...]
    linear_pieces: LinearPieces | None


@dataclasses.dataclass(frozen=True, eq=False)
class _Samples:
    """Values of a function on a grid, with its kinks.

    Attributes:
        curve: The function on flat float arrays, in float64.
        x: Ascending grid points.
        y: Values there.
        kinks: Ascending points where the slope or the value jumps.
        jumps: Bool array, shape `(kinks,)`: whether the value jumps there.
        pieces: `(slope, intercept)` of each piece between the kinks; None if one is curved.
    """

    curve: Curve
    x: np.ndarray
    y: np.ndarray
    kinks: np.ndarray
    jumps: np.ndarray
    pieces: LinearPieces | None


def measure(function: Callable, units: int = 8) -> Measured:
    """Measure an element-wise function on [-32, 32] and at some points far out.

    Args:
        function: Element-wise function on float32 tensors of shape `(rows, units)`.
        units: Size of the last axis, at least 1.

    Returns:
        A `Measured`. If all pieces are straight, `slope` is the largest piece's. Else it is the
        largest difference quotient plus 1 %; `math.inf` if the quotients grow with the range or as
        the spacing shrinks, or if the function overflows within [-32, 32].
    """
    samples = _sample(function, units)
    x, y, curve, pieces = samples.x, samples.y, samples.curve, samples.pieces
    if x[-1] < _REACH or np.any(samples.jumps):
        slope = math.inf
    else:
        slope = _largest_slope(x, y, curve)
    if pieces is not None and not np.any(samples.jumps):
        slope = max(abs(steepness) for steepness, _ in pieces)
    at_zero = float(curve(np.zeros(1))[0]) + 0.0  # never -0.0
    return Measured(
        slope=slope,
        monotone=_is_monotone(x, y, curve),
        homogeneous=(
            pieces is not None
            and at_zero == 0
            and not np.any(samples.kinks)
            and all(intercept == 0 for _, intercept in pieces)
        ),
        at_zero=at_zero,
        kinks=tuple(float(kink) for kink in samples.kinks),
        linear_pieces=pieces,
    )


def kinks_and_pieces(function: Callable) -> tuple[tuple[float, ...], LinearPieces | None]:
    """Return the `kinks` and `linear_pieces` of an element-wise function, as in `measure`."""
    samples = _sample(function, 8)
    return tuple(float(kink) for kink in samples.kinks), samples.pieces


def _sample(function: Callable, units: int) -> _Samples:
    """Evaluate a function on the grid and find its kinks and straight pieces."""

    def curve(points: np.ndarray) -> np.ndarray:
        padded = np.zeros((-(-len(points) // units), units), np.float32)
        padded.ravel()[: len(points)] = points
        return call(function, padded).ravel()[: len(points)].astype(np.float64)

    x = np.arange(-_REACH, _REACH + _FINE, _FINE)
    y = curve(x)
    if not np.all(np.isfinite(y)):
        inside = np.abs(x) <= CHECKED
        x, y = x[inside], y[inside]
    if not np.all(np.isfinite(y)):
        raise NotElementwise(f"it is not finite on [-{CHECKED:g}, {CHECKED:g}]")
    kinks, jumps = _find_kinks(x, y, curve)
    kinks, pieces = _straight_pieces(x, y, kinks, jumps, curve)
    if len(kinks) > _MOST_KINKS:
        kinks, pieces = kinks[:0], None
    return _Samples(curve, x, y, kinks, jumps, pieces)


def _rounding(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return a generous bound of the float32 error of values `y` at `x`: some four operations."""
    return 4 * EPS * np.maximum(1.0, np.maximum(np.abs(x), np.abs(y)))


def _off_grid(count: int) -> np.ndarray:
    """Draw random points, because the grid misses an oscillation with the grid's period."""
    return np.random.default_rng(0).uniform(-CHECKED, CHECKED, count).astype(np.float32)


def _largest_slope(x: np.ndarray, y: np.ndarray, curve: Curve) -> float:
    """Return an upper bound of the absolute slope, `math.inf` if the quotients don't converge."""
    step = round(_COARSE / _FINE)
    quotients = np.abs(np.diff(y)) / _FINE
    noise = 2 * _rounding(x, y)[1:] / _FINE
    fine = quotients.max()
    coarse = np.abs(np.diff(y[::step])) / _COARSE
    inner = coarse[np.abs(x[::step][1:]) <= CHECKED].max()
    top = quotients.argmax()
    around = x[top] + np.arange(-_FINE, 2 * _FINE + _ZOOM, _ZOOM)
    zoomed = np.abs(np.diff(curve(around))) / _ZOOM
    if zoomed.max() > _GROWTH * fine + noise[top] * _FINE / _ZOOM:
        return math.inf
    start = _off_grid(2048)
    end = (start + np.exp2(np.linspace(-9, -3, 2048))).astype(np.float32)
    gap = end.astype(np.float64) - start
    before, after = np.split(curve(np.concatenate([start, end])), 2)
    if np.any(np.abs(after - before) > _GROWTH * fine * gap + 2 * _rounding(end, after)):
        return math.inf
    steepest = max(fine, zoomed.max() - noise[top] * _FINE / _ZOOM)
    far = curve(_FAR)
    if not np.all(np.isfinite(far)):
        grows = coarse.max() > _FAR_GROWTH * inner
        return math.inf if grows else float(_MARGIN * steepest)
    far = np.abs(np.diff(far)[::2])
    near = max(far[1], far[2], coarse.max())
    if max(far[0], far[3]) > _FAR_GROWTH * near + _rounding(_FAR, _FAR).max():
        return math.inf
    return float(_MARGIN * max(steepest, far.max()))


def _is_monotone(x: np.ndarray, y: np.ndarray, curve: Curve) -> bool:
    """Return whether values never decrease, or never increase, by more than rounding."""
    far = curve(_FAR)
    if np.all(np.isfinite(far)):
        middle = len(_FAR) // 2
        x = np.concatenate([_FAR[:middle], x, _FAR[middle:]])
        y = np.concatenate([far[:middle], y, far[middle:]])
    steps = np.diff(y)
    size = np.abs(y[np.abs(x) <= 1]).max()  # rounding is relative to the size of the values
    noise = 8 * EPS * np.maximum(np.abs(y[1:]), size)
    return bool(np.all(steps >= -noise) or np.all(steps <= noise))


def _find_kinks(x: np.ndarray, y: np.ndarray, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Find where the slope jumps: there its change stays as the spacing shrinks.

    Where the function is merely curved, the change shrinks with the spacing.

    Returns:
        The points, ascending, and which of them are jumps of the value itself.
    """
    step = round(_COARSE / _FINE)
    slopes, noise = np.diff(y) / _FINE, _rounding(x, y)
    turns = np.abs(slopes[2:] - slopes[:-2])
    coarse = np.pad(np.abs(np.diff(y[::step] / _COARSE, 2)), 2)
    coarse = np.maximum(np.maximum(coarse[:-2], coarse[1:-1]), coarse[2:])
    cells = np.arange(1, len(slopes) - 1)
    # 1 % of the slope next to it: a smaller turn changes no quadrature that is good to 1e-3.
    least = 0.01 * np.maximum(np.abs(slopes[2:]), np.abs(slopes[:-2])) + 4 * noise[cells] / _FINE
    flagged = cells[(turns > least) & (turns > 0.5 * coarse[cells // step])]
    flagged = flagged[(flagged > 2) & (flagged < len(slopes) - 3)]
    if len(flagged) == 0:
        return np.zeros(0), np.zeros(0, bool)
    clusters = np.split(flagged, np.nonzero(np.diff(flagged) > 4)[0] + 1)
    first = np.array([cluster[0] for cluster in clusters])
    last = np.array([cluster[-1] for cluster in clusters])
    left, right = slopes[first - 1], slopes[last + 1]
    steps = np.abs(np.diff(y))
    steepest = np.array([a + steps[a : b + 1].argmax() for a, b in zip(first, last, strict=True)])
    gentle = 1.5 * _FINE * np.maximum(np.abs(left), np.abs(right)) + 4 * noise[steepest]
    jumps = steps[steepest] > gentle
    # A kink is where the two tangents meet; a jump is found by bisection.
    turn = np.where(jumps | (left == right), 1.0, left - right)
    gap = y[last + 1] - y[first] - right * (x[last + 1] - x[first])
    meeting = np.clip(x[first] + gap / turn, x[first], x[last + 1])
    return np.where(jumps, _bisect(x[steepest], x[steepest + 1], curve), meeting), jumps


def _bisect(low: np.ndarray, high: np.ndarray, curve: Curve) -> np.ndarray:
    """Find the jump between each two neighbouring grid points."""
    at_low, at_high = curve(low), curve(high)
    for _ in range(12):  # 2**-9 / 2**12: 5e-7
        middle = (low + high) / 2
        value = curve(middle)
        is_low = np.abs(value - at_low) < np.abs(value - at_high)
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    return _snap((low + high) / 2, 2e-6)


def _snap(value: np.ndarray | float, error: float) -> np.ndarray:
    """Round to 5 decimals wherever the result lies within `error`: that number was meant."""
    short = np.round(value, 5) + 0.0
    return np.where(np.abs(short - value) <= error, short, value)


def _straight_pieces(
    x: np.ndarray, y: np.ndarray, kinks: np.ndarray, jumps: np.ndarray, curve: Curve
) -> tuple[np.ndarray, LinearPieces | None]:
    """Fit a line to each piece between the kinks.

    Returns:
        If all pieces are straight, the points where the lines meet, and the lines. Else the kinks
        as given, and None.
    """
    lines = []
    for low, high in itertools.pairwise([x[0] - 1, *kinks, x[-1] + 1]):
        inside = np.nonzero((x > low + 2 * _FINE) & (x < high - 2 * _FINE))[0]
        if len(inside) < 8:
            return kinks, None
        a, b = inside[0], inside[-1]
        error = 2 * EPS * np.abs(y[inside]).max()
        slope = _snap((y[b] - y[a]) / (x[b] - x[a]), 2 * error / (x[b] - x[a]))
        intercept = y[inside].mean() - slope * x[inside].mean()
        lines.append((float(slope), float(_snap(intercept, 4 * error))))
    meeting = kinks.copy()
    for i, ((s, b), (t, c)) in enumerate(itertools.pairwise(lines)):
        if not jumps[i] and s != t:
            meeting[i] = _snap((b - c) / (t - s), 1e-6)
    # Far and near zero too: a clip at 100 is no relu, and 1e-3 tanh(1000 x) is no sign.
    wide = np.exp2(np.arange(-20, 17)) * 1.37
    points = np.concatenate([x, wide, -wide, _off_grid(512)])
    slopes, intercepts = np.array(lines)[np.searchsorted(meeting, points)].T
    size = np.abs(slopes * points) + np.abs(intercepts)
    values = np.concatenate([y, curve(points[len(x) :])])
    with np.errstate(invalid="ignore"):
        distance = np.abs(values - slopes * points - intercepts)
    away = ~np.any(np.abs(points[:, None] - kinks[jumps]) < _FINE / 64, axis=1)
    straight = np.all((distance <= 16 * EPS * size + EPS)[away])
    return (meeting, tuple(lines)) if straight else (kinks, None)
