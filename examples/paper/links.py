"""Compare the saliency with Optimal Brain Damage, and check Lemma 1 on every activation.

Optimal Brain Damage is the special case `W_i = 0`: `s_ij -> <a_j^2> ||W_j||^2` as `W_i -> 0`.
Lemma 1 is `(h(a) - h(b))^2 <= L^2 (a - b)^2` (Section 3).
"""

import inspect
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

import keras_dfprune as dfprune
from examples.paper.results import new_figure, write_figure, write_table
from examples.paper.settings import Settings
from keras_dfprune.rules.activations import Activation, NotElementwise, describe

_INPUTS, _UNITS, _OUTPUTS = 20, 30, 5


def run(settings: Settings) -> dict[str, list]:
    """Write three tables and one picture; return their values."""
    samples = 2_000 if settings.quick else 100_000
    limits = saliency_towards_zero()
    write_table(
        settings.output / "links-zero.csv",
        ("norm of W_i over norm of W_j", "saliency over its limit"),
        [(f"{norm:.0e}", f"{ratio:.6f}") for norm, ratio in limits],
    )
    damage = {name: brain_damage(name, samples) for name in ("linear", "relu")}
    write_table(
        settings.output / "links-obd.csv",
        ("activation", "OBD of the gate over the limit: mean", "smallest", "largest"),
        [
            (name, *(f"{f(obd / small):.3f}" for f in (np.mean, np.min, np.max)))
            for name, (small, obd) in damage.items()
        ],
    )
    lemma = lemma_1(samples)
    write_table(
        settings.output / "links-lemma1.csv",
        ("activation", "largest slope L", "largest (h(a) - h(b))^2 / (L^2 (a - b)^2) seen"),
        [(name, f"{slope:.5g}", f"{ratio:.6f}") for name, slope, ratio in lemma],
    )
    write_figure(settings.output / "links.png", _draw(damage, lemma))
    return {"limits": limits, "damage": damage, "lemma": lemma}


def saliency_towards_zero() -> list[tuple[float, float]]:
    """Compute the library's saliency of two units while the weight-set of unit i shrinks to zero.

    Returns:
        Norm of `W_i` over norm of `W_j`, and saliency over its limit, for each step.
    """
    rng = np.random.default_rng(0)
    kernel, bias = rng.standard_normal((_INPUTS, 2)), rng.standard_normal(2)
    outgoing = rng.standard_normal((2, _OUTPUTS))
    outgoing[0] *= 100.0  # so that unit j = 1 costs less to remove
    norm = np.square(kernel[:, 1]).sum() + bias[1] ** 2
    expected = np.mean(np.square(outgoing[1])) * norm
    rows = []
    for shrink in (1.0, 1e-1, 1e-2, 1e-3, 1e-4):
        factor = np.array([shrink, 1.0])
        model = keras.Sequential(
            [keras.Input((_INPUTS,)), keras.layers.Dense(2, "relu"), keras.layers.Dense(_OUTPUTS)]
        )
        model.set_weights([kernel * factor, bias * factor, outgoing, np.zeros(_OUTPUTS)])
        plan = dfprune.plan(model, method=dfprune.Saliency(normalize=False), sparsity=0.5)
        small = shrink * np.sqrt((np.square(kernel[:, 0]).sum() + bias[0] ** 2) / norm)
        rows.append((float(small), float(plan.groups[0].saliency[0] / expected)))
    return rows


def brain_damage(activation: str, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute both saliencies for units without a bias, on inputs from N(0, I).

    Every unit has a gate `g_j = 1`, `z = sum_j g_j a_j h(W_j^T x)`, and the error is half the
    mean squared change of the outputs. OBD's saliency of a gate is `h_jj g_j^2 / 2`, with
    `h_jj` the diagonal of the error's Hessian, computed by automatic differentiation.

    Returns:
        `<a_j^2> ||W_j||^2` and OBD's saliency of each gate, both of shape `(units,)`.
    """
    rng = np.random.default_rng(1)
    sizes = np.exp(rng.uniform(-1.5, 1.5, (2, _UNITS)))
    kernel = rng.standard_normal((_INPUTS, _UNITS)) * sizes[0]
    outgoing = rng.standard_normal((_UNITS, _OUTPUTS)) * sizes[1][:, None]
    x = tf.constant(rng.standard_normal((samples, _INPUTS)))
    hidden = keras.activations.get(activation)(x @ kernel)
    target = hidden @ outgoing
    gates = tf.Variable(np.ones(_UNITS))
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            change = (hidden * gates) @ outgoing - target
            error = tf.reduce_mean(tf.square(change)) / 2
        gradient = inner.gradient(error, gates)
    diagonal = np.diag(outer.jacobian(gradient, gates))
    small = np.mean(np.square(outgoing), axis=1) * np.sum(np.square(kernel), axis=0)
    return small, diagonal / 2


def lemma_1(samples: int) -> list[tuple[str, float, float]]:
    """Return name, slope and largest ratio of every activation whose slope is bounded."""
    rows = []
    for name, function in _activations():
        try:
            activation = describe(function)
        except NotElementwise:
            continue
        if np.isfinite(activation.slope):
            rows.append((name, activation.slope, _largest_ratio(activation, samples)))
    return rows


def _activations() -> list[tuple[str, Callable]]:
    """Return Keras' activation functions, and some of its activation layers."""
    functions = inspect.getmembers(keras.activations, inspect.isfunction)
    names = [n for n, _ in functions if n not in ("get", "serialize", "deserialize")]
    layers = [keras.layers.LeakyReLU(0.3), keras.layers.ReLU(6.0, 0.1, 0.5), keras.layers.ELU(2.0)]
    named = [(f"layer {type(layer).__name__}", layer) for layer in layers]
    return [(name, getattr(keras.activations, name)) for name in names] + named


def _largest_ratio(activation: Activation, samples: int) -> float:
    """Return the largest ratio over random pairs, near and far, and over steps along the axis.

    Pairs nearer than 1e-3 are left out, and all points are float32 numbers, because some
    activations compute in float32, whose rounding errors would count there.
    """
    rng = np.random.default_rng(2)
    start = rng.uniform(-12.0, 12.0, samples)
    step = np.exp(rng.uniform(np.log(1e-3), np.log(20.0), samples))
    grid = np.linspace(-12.0, 12.0, 4801)
    a = np.concatenate([start, grid[:-1]]).astype("float32").astype("float64")
    b = np.concatenate([start + step, grid[1:]]).astype("float32").astype("float64")
    change = activation.values(a) - activation.values(b)
    return float(np.max(np.square(change) / np.square(activation.slope * (a - b))))


def _draw(
    damage: dict[str, tuple[np.ndarray, np.ndarray]], lemma: list[tuple[str, float, float]]
) -> Figure:
    figure, (left, right) = new_figure(10, 5, columns=2)
    for (name, (small, obd)), marker in zip(damage.items(), "os", strict=True):
        left.plot(small, obd, marker, markersize=5, label=f"{name} units")
    ends = np.array([min(small.min() for small, _ in damage.values()) / 2, 3 * small.max()])
    left.plot(ends, ends / 2, "-", color="0.4", label="half of it")
    left.plot(ends, ends / 4, "--", color="0.4", label="a quarter of it")
    left.set(xscale="log", yscale="log", title="$W_i = 0$ and Optimal Brain Damage")
    left.set(xlabel="$\\langle a_j^2\\rangle\\,\\|W_j\\|^2$", ylabel="OBD: $h_{jj} g_j^2 / 2$")
    left.legend()
    names = [f"{name} (L = {slope:.3g})" for name, slope, _ in lemma]
    right.barh(names, [ratio for *_, ratio in lemma], color="C0", alpha=0.7)
    right.axvline(1.0, color="C3", label="Lemma 1")
    right.set(title="Lemma 1", xlabel="largest $(h(a)-h(b))^2 \\,/\\, (L^2 (a-b)^2)$ seen")
    right.tick_params(axis="y", labelsize=7)
    right.invert_yaxis()
    right.legend(loc="lower left")
    return figure
