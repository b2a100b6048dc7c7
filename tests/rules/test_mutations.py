"""Plant faults in the rules and the surgery: a row of the conformance table catches each.

Units that look like copies but aren't, and units that look needed but are constant, follow.
"""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from keras_dfprune.inputs.model_inputs import adapt_samples, run_model
from keras_dfprune.inputs.sample_inputs import draw_samples
from keras_dfprune.locate import locate
from keras_dfprune.methods.merge import CentroidMerge, LinearMerge, SurvivorMerge
from keras_dfprune.rules import (
    arithmetic,
    attention,
    base,
    convolution,
    dense,
    effects,
    kernels,
    normalization,
    recurrent,
    shape,
)
from keras_dfprune.surgery import carry_out
from tests.support import conformance, random_graphs

WRONG = (dfprune.VerificationError, "of the largest output from the original")
# What Keras says of a layer whose config or arguments don't fit its neighbours or its weights.
MISFIT = (ValueError, "Cannot broadcast shape|is incompatible with the layer|must match")


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault in the package that a row of the table has to show.

    Attributes:
        row: The row.
        plant: Function of `monkeypatch` that plants the fault.
        error, words: The error that counts as caught. Any other, such as a TypeError of the
            planted code itself, fails the test.
    """

    row: str
    plant: Callable[[pytest.MonkeyPatch], None]
    error: type[Exception] = WRONG[0]
    words: str = WRONG[1]


def check_row(row):
    """Check that planted copies come out exactly and that the wide twin agrees with all merges."""
    model = conformance.build(row)
    for method in ("saliency", random_graphs.Scatter(False), random_graphs.Scatter(True)):
        dfprune.apply(model, method=method, sparsity=0.5)
    random_graphs.plant_copies(model)
    pruned = dfprune.apply(model, tolerance=0)
    assert pruned.count_params() < model.count_params()
    check_equal_outputs(pruned, model)


def check_equal_outputs(pruned, model):
    samples = draw_samples(model)
    received = run_model(pruned, adapt_samples(samples, pruned))
    for name, expected in run_model(model, samples).items():
        assert np.abs(received[name] - expected).max() <= 1e-5 * np.abs(expected).max()


def replaces(owner, name, value):
    """Plant another attribute."""
    return lambda monkeypatch: monkeypatch.setattr(owner, name, value)


def returns(owner, name, change):
    """Plant a change of what a function returns."""
    original = getattr(owner, name)
    return replaces(owner, name, lambda *args: change(original(*args)))


def receives(owner, name, change):
    """Plant a change of the arguments that a function receives."""
    original = getattr(owner, name)
    return replaces(owner, name, lambda *args: original(*change(*args)))


def with_rolled_cut(rule, state, cut):
    masks = [None if mask is None else np.roll(mask, 1) for mask in (cut.inputs, cut.outputs)]
    return rule, state, dataclasses.replace(cut, inputs=masks[0], outputs=masks[1])


def with_rolled_dimensions(rule, state, cut):
    dimensions = {kind: np.roll(mask, 1) for kind, mask in cut.dimensions.items()}
    return rule, state, dataclasses.replace(cut, dimensions=dimensions)


def with_doubled_scores(rule, state, kind, into, back, lost):
    return rule, state, kind, 2 * into if kind == "query_key" else into, back, lost


def with_nothing_lost(rule, state, kind, into, back, lost):
    return rule, state, kind, into, back, 0 * lost


def with_something_lost(rule, state, kind, into, back, lost):
    return rule, state, kind, into, back, lost + (kind == "value")


def with_rolled_rows(rule, state, outgoing):
    return rule, state, np.roll(outgoing, 1, axis=0)


def with_channels_last(rule, call, streams):
    return rule, dataclasses.replace(call, operation=keras.layers.Flatten()), streams


def without_scale(affine):
    return effects.Affine(np.ones_like(affine.scale), affine.shift)


def without_shift(affine):
    return effects.Affine(affine.scale, np.zeros_like(affine.shift))


def with_columns(stream, change):
    pieces = tuple(
        dataclasses.replace(piece, columns=change(piece.columns)) for piece in stream.pieces
    )
    return dataclasses.replace(stream, pieces=pieces)


def flipped(stream):
    return with_columns(stream, lambda columns: columns[::-1].copy())


def rolled(stream):
    return None if stream is None else with_columns(stream, lambda columns: np.roll(columns, 1))


no_offset = replaces(carry_out, "_add_offset", lambda *args: None)
FAULTS = {
    "offset forgotten": Fault("dense", no_offset),
    "offset not moved into the normalization": Fault("dense without bias", no_offset),
    "slices swapped": Fault("dense", receives(base.Rule, "narrow", with_rolled_cut)),
    "gain doubled": Fault("dense", returns(SurvivorMerge, "taken_over", lambda gain: 2 * gain)),
    "mixture forgotten": Fault("dense", returns(LinearMerge, "taken_over", np.zeros_like)),
    "kept units not moved": Fault(
        "dense", replaces(carry_out, "move_to_centroids", lambda group, merge, states: None)
    ),
    "centroids not taken over": Fault("dense", returns(CentroidMerge, "taken_over", np.zeros_like)),
    "centroids without the scale in front": Fault(
        "dense without bias",
        receives(
            carry_out,
            "averaged",
            lambda rule, state, merge, scale: (rule, state, merge, np.ones_like(scale)),
        ),
    ),
    "normalization without scale": Fault(
        "normalization behind",
        returns(normalization.BatchNormalizationRule, "effect", without_scale),
    ),
    "normalization without shift": Fault(
        "normalization behind",
        returns(normalization.BatchNormalizationRule, "effect", without_shift),
    ),
    "constant without shift": Fault(
        "arithmetic", returns(arithmetic.ArithmeticRule, "effect", without_shift)
    ),
    "constants not cut": Fault(
        "arithmetic",
        replaces(arithmetic.ArithmeticRule, "narrow_arguments", base.Rule.narrow_arguments),
        *MISFIT,
    ),
    "flatten by channels first as by last": Fault(
        "flatten, channels first", receives(shape.FlattenRule, "carry", with_channels_last)
    ),
    "concatenated in another order": Fault(
        "concatenate", returns(shape.ConcatenateRule, "carry", flipped)
    ),
    "input of a nested model not cut": Fault(
        "input",
        returns(
            shape.InputRule, "narrow_config", lambda config: {**config, "batch_shape": (None, 7)}
        ),
        *MISFIT,
    ),
    "taps reversed": Fault(
        "convolution",
        returns(convolution.ConvolutionRule, "outgoing", lambda array: array[:, ::-1]),
    ),
    "all groups of channels as one block": Fault(
        "groups of channels",
        replaces(locate, "find_blocks", lambda *args: np.zeros(args[-1], np.int64)),
    ),
    "rows of another group of channels": Fault(
        "groups of channels",
        receives(convolution.ConvolutionRule, "with_outgoing", with_rolled_rows),
    ),
    "channels cut in another group": Fault(
        "groups of channels",
        receives(convolution.ConvolutionRule, "narrow", with_rolled_cut),
    ),
    "one direction forgotten": Fault(
        "bidirectional",
        replaces(recurrent.RecurrentRule, "kernels", ("kernel", "forward_kernel")),
    ),
    "own rows not taken over": Fault(
        "recurrent states", replaces(recurrent.RecurrentRule, "own_rows", None)
    ),
    "values forgotten": Fault(
        "attention",
        replaces(attention.AttentionRule, "kernels", ("query_kernel", "key_kernel")),
    ),
    "outputs of attention as wide as its inputs": Fault(
        "attention", replaces(attention.AttentionRule, "config", base.Rule.config), *MISFIT
    ),
    "scores of smaller heads not rescaled": Fault(
        "attention", receives(attention.AttentionRule, "with_maps", with_doubled_scores)
    ),
    "means of values lost": Fault(
        "attention", receives(attention.AttentionRule, "with_maps", with_nothing_lost)
    ),
    "means of values kept with dropout": Fault(
        "attention with dropout",
        receives(attention.AttentionRule, "with_maps", with_something_lost),
    ),
    "dimensions of heads cut elsewhere": Fault(
        "attention", receives(base.Rule, "narrow", with_rolled_dimensions)
    ),
    "sizes of heads forgotten": Fault(
        "attention",
        replaces(attention.AttentionRule, "narrow_config", base.Rule.narrow_config),
        *MISFIT,
    ),
    "a layer's width forgotten": Fault(
        "dense", replaces(dense.DenseRule, "narrow_config", base.Rule.narrow_config), *MISFIT
    ),
}


def faults_of_rules():
    """Plant a fault into each function of a rule that features go through."""
    for rule, row in conformance.first_rows().items():
        if not isinstance(rule, kernels.KernelRule):
            yield Fault(row, returns(type(rule), "carry", rolled))
        if isinstance(rule, kernels.ProducerRule):
            yield Fault(row, receives(type(rule), "narrow", with_rolled_cut))
        if isinstance(rule, kernels.ConsumerRule):
            yield Fault(row, receives(type(rule), "with_outgoing", with_rolled_rows))


def check_caught(fault, monkeypatch):
    check_row(fault.row)
    fault.plant(monkeypatch)
    with pytest.raises(fault.error, match=fault.words):
        check_row(fault.row)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name, monkeypatch):
    check_caught(FAULTS[name], monkeypatch)


@pytest.mark.parametrize("fault", list(faults_of_rules()), ids=lambda fault: fault.row)
def test_swapped_features_in_any_rule_are_caught(fault, monkeypatch):
    check_caught(fault, monkeypatch)


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
        check_equal_outputs(plan.apply(model), model)
    keras.backend.clear_session()
