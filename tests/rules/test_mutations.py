"""A fault planted in a rule or in the surgery is caught by a row of the conformance table.

The first half shows that the checks can fail; the second, that what must stay apart stays apart.
"""

import dataclasses

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.inputs.sample_inputs import draw_samples, hand_over, run_model
from keras_dfprune.methods.merge import CentroidMerge, LinearMerge, SurvivorMerge
from keras_dfprune.rules import (
    arithmetic,
    base,
    consumer,
    convolution,
    dense,
    effects,
    normalization,
    registry,
    shape,
)
from keras_dfprune.surgery import carry_out, weights
from tests.support import conformance, random_graphs


def is_right(row):
    """Whether planted copies come out exactly and the wide twin agrees with both merges."""
    model = conformance.build(row)
    for method in ("saliency", random_graphs.Scatter(False), random_graphs.Scatter(True)):
        dfprune.apply(model, method=method, sparsity=0.5)
    random_graphs.plant_copies(model)
    samples = draw_samples(model)
    pruned = dfprune.apply(model, tolerance=0)
    assert pruned.count_params() < model.count_params()
    found = run_model(pruned, hand_over(samples, pruned))
    for name, wanted in run_model(model, samples).items():
        assert np.abs(found[name] - wanted).max() <= 1e-5 * np.abs(wanted).max()


def patched(owner, name, change):
    """A fault: `change` gets what the original returns."""

    def plant(monkeypatch):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args: change(original(*args)))

    return plant


def rolled_cut(cut):
    masks = [None if mask is None else np.roll(mask, 1) for mask in (cut.inputs, cut.outputs)]
    return dataclasses.replace(cut, inputs=masks[0], outputs=masks[1])


def swapped_slices(monkeypatch):
    original = base.Rule.narrow
    monkeypatch.setattr(
        base.Rule, "narrow", lambda self, state, cut: original(self, state, rolled_cut(cut))
    )


def doubled(gains):
    return ((heirs, 2 * gain) for heirs, gain in gains)


def one_scale(affine):
    return effects.Affine(np.ones_like(affine.scale), affine.shift)


def no_shift(affine):
    return effects.Affine(affine.scale, np.zeros_like(affine.shift))


def flipped(stream):
    pieces = tuple(
        dataclasses.replace(piece, columns=piece.columns[::-1].copy()) for piece in stream.pieces
    )
    return dataclasses.replace(stream, pieces=pieces)


def rolled(stream):
    pieces = tuple(
        dataclasses.replace(piece, columns=np.roll(piece.columns, 1)) for piece in stream.pieces
    )
    return dataclasses.replace(stream, pieces=pieces)


def nowhere(group, merge, states):
    """Stands for `move_to_centroids`."""


def unscaled_centroids(monkeypatch):
    original = carry_out.averaged
    monkeypatch.setattr(
        carry_out,
        "averaged",
        lambda rule, state, merge, scale: original(rule, state, merge, np.ones_like(scale)),
    )


def nothing(monkeypatch):
    monkeypatch.setattr(weights, "_place", lambda *args: None)


FAULTS = {
    "offset forgotten": (nothing, "dense"),
    "offset not moved into the normalization": (nothing, "dense without bias"),
    "slices swapped": (swapped_slices, "dense"),
    "gain doubled": (patched(SurvivorMerge, "gains", doubled), "dense"),
    "mixture forgotten": (patched(LinearMerge, "taken_over", lambda gain: 0 * gain), "dense"),
    "kept units not moved": (
        lambda monkeypatch: monkeypatch.setattr(carry_out, "move_to_centroids", nowhere), "dense"
    ),
    "centroids not taken over": (
        patched(CentroidMerge, "taken_over", lambda gain: 0 * gain), "dense"
    ),
    "centroids without the scale in front": (unscaled_centroids, "dense without bias"),
    "normalization without scale": (
        patched(normalization.BatchNormalizationRule, "effect", one_scale),
        "normalization behind",
    ),
    "normalization without shift": (
        patched(normalization.BatchNormalizationRule, "effect", no_shift),
        "normalization behind",
    ),
    "constant without shift": (
        patched(arithmetic.ArithmeticRule, "effect", no_shift),
        "arithmetic",
    ),
    "constants not cut": (
        lambda monkeypatch: monkeypatch.setattr(
            arithmetic.ArithmeticRule, "narrow_arguments", base.Rule.narrow_arguments
        ),
        "arithmetic",
    ),
    "flatten by channels first as by last": (
        lambda monkeypatch: monkeypatch.setattr(np, "moveaxis", lambda array, *axes: array),
        "flatten, channels first",
    ),
    "concatenated in another order": (
        patched(shape.ConcatenateRule, "carry", flipped),
        "concatenate",
    ),
    "input of a nested model not cut": (
        patched(
            shape.InputRule, "narrow_config", lambda config: {**config, "batch_shape": (None, 7)}
        ),
        "input",
    ),
    "taps reversed": (
        patched(convolution.ConvolutionRule, "outgoing", lambda array: array[:, ::-1]),
        "convolution",
    ),
    "one direction forgotten": (
        lambda monkeypatch: monkeypatch.setattr(
            consumer.RecurrentRule, "kernels", ("kernel", "forward_kernel")
        ),
        "bidirectional",
    ),
    "values forgotten": (
        lambda monkeypatch: monkeypatch.setattr(
            consumer.SelfAttentionRule, "kernels", ("query_kernel", "key_kernel")
        ),
        "attention",
    ),
    "outputs of attention as wide as its inputs": (
        lambda monkeypatch: monkeypatch.setattr(
            consumer.SelfAttentionRule, "read", consumer.ConsumerRule.read
        ),
        "attention",
    ),
    "a layer's width forgotten": (
        lambda monkeypatch: monkeypatch.setattr(
            dense.DenseRule, "narrow_config", base.Rule.narrow_config
        ),
        "dense",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    plant, row = FAULTS[fault]
    is_right(row)
    plant(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017 - some faults don't even build
        is_right(row)


def kernel_copy(model, source=0, target=1):
    layer = model.get_layer("producer")
    for variable in layer.weights:
        values = np.array(variable)
        values[..., target] = values[..., source]
        variable.assign(values)


@pytest.mark.parametrize("row", ["prelu", "prelu by position", "depthwise", "normalization before"])
def test_equal_kernels_behind_parameters_of_their_own_are_no_copies(row):
    model = conformance.build(row)
    kernel_copy(model)
    plan = dfprune.plan(model, tolerance=0, layers=["producer"])
    assert len(plan.groups[0].removed) == 0


def constant_unit(model):
    layer = model.get_layer("producer")
    kernel, bias = (np.array(variable) for variable in layer.weights)
    kernel[..., 1], bias[1] = 0.0, 2.0
    layer.set_weights([kernel, bias])


def test_a_constant_unit_goes_into_the_bias_but_stays_beside_zero_padding():
    exact = ("convolution", "lstm without bias", "gru", "gru, one bias", "bidirectional",
             "attention", "attention without bias", "einsum")  # fmt: skip
    for row, removed in (*((row, 1) for row in exact), ("zero padding", 0)):
        model = conformance.build(row)
        constant_unit(model)
        plan = dfprune.plan(model, tolerance=0)
        assert len(plan.groups[0].removed) == removed, row
        samples = draw_samples(model)
        pruned = plan.apply(model)
        for name, wanted in run_model(model, samples).items():
            found = run_model(pruned, hand_over(samples, pruned))[name]
            assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    keras.backend.clear_session()


def rows_of_rules():
    """The first row of each rule in the table."""
    found = {}
    for row, (rule, _) in conformance.ROWS.items():
        found.setdefault(rule, row)
    return found


def mixed_up(original, name, *args):
    """What a rule's function returns where it mixes up the features."""
    if name == "carry":
        stream = original(*args)
        return None if stream is None else rolled(stream)
    *rest, last = args
    return original(*rest, rolled_cut(last) if name == "narrow" else np.roll(last, 1, axis=0))


def places_of_faults():
    """Each rule with a function of its own that features go through."""
    for name in rows_of_rules():
        (rule,) = [rule for rule in registry.RULES if type(rule).__name__ == name]
        if not isinstance(rule, base.UnitRule):
            yield type(rule), "carry"
            continue
        if rule.whole is None:
            yield type(rule), "narrow"
        if rule.consumes:
            yield type(rule), "with_outgoing"


@pytest.mark.parametrize(("rule", "name"), places_of_faults())
def test_swapped_features_in_any_rule_are_caught(rule, name, monkeypatch):
    """A carrier that mixes up its features; a layer of units that keeps or takes the wrong ones."""
    row = rows_of_rules()[rule.__name__]
    is_right(row)
    original = getattr(rule, name)
    monkeypatch.setattr(rule, name, lambda *args: mixed_up(original, name, *args))
    with pytest.raises(Exception):  # noqa: B017 - some faults don't even build
        is_right(row)
