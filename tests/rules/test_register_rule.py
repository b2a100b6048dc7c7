"""Rules that users register, and the checks that a false rule fails."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from examples.custom_layer import LayerScale, LayerScaleRule
from keras_dfprune import rules
from tests.support.models import plant_copy, relative_difference

layers = keras.layers
Dense = layers.Dense


class Shrink(layers.Layer):
    def call(self, x):
        return x - keras.ops.tanh(x)


class ShrinkRule(rules.ElementwiseRule):
    types = (Shrink,)

    def effect(self, call, state):
        return rules.Nonlinear(rules.describe(lambda x: x - keras.ops.tanh(x), 8))


class MyDense(Dense):
    pass


class MyDenseRule(rules.DenseRule):
    types = (MyDense,)


class Passed(layers.Layer):
    def call(self, x):
        return x


class PassedRule(rules.PassRule):
    types = (Passed,)


@pytest.fixture(autouse=True)
def only_here():
    yield
    for kind in (LayerScale, Shrink, MyDense, Passed):
        try:
            dfprune.unregister_rule(kind)
        except ValueError:
            pass


def chain(*middle):
    keras.utils.set_random_seed(0)
    steps = [keras.Input((5,)), Dense(8, "relu", name="fc"), *middle, Dense(3, name="head")]
    model = keras.Sequential(steps)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(0, 1, weight.shape))
    return model


ROWS = [(LayerScaleRule, LayerScale), (ShrinkRule, Shrink), (PassedRule, Passed),
        (MyDenseRule, lambda: MyDense(6, "tanh"))]  # fmt: skip


def reason(model):
    refusals = dfprune.plan(model, sparsity=0.5).refusals
    return next(refusal.reason for refusal in refusals if refusal.layer == "fc")


@pytest.mark.parametrize("rule, layer", ROWS)
def test_copies_go_through_a_registered_rule(rule, layer, tmp_path):
    model = chain(layer())
    plant_copy(model.layers[0], 0, 1)
    assert "is a custom layer that no rule covers" in reason(model)
    dfprune.register_rule(rule())
    plan = dfprune.plan(model, tolerance=0)
    assert [len(group.removed) for group in plan.groups if group.layer == "fc"] == [1]
    plan.save(tmp_path / "plan.npz")
    pruned = dfprune.PruningPlan.load(tmp_path / "plan.npz").apply(model)
    x = np.random.default_rng(1).normal(size=(9, 5)).astype("float32")
    assert relative_difference(pruned(x).numpy(), model(x).numpy()) < 1e-5
    half = dfprune.apply(model, sparsity=0.5)
    assert half.layers[0].units == 4 and type(half.layers[1]) is type(model.layers[1])
    own = {id(variable) for variable in model.variables}
    assert not own & {id(variable) for variable in half.variables}
    dfprune.unregister_rule(rule.types[0])
    with pytest.raises(ValueError, match="made for another model"):
        plan.apply(model)


def wrong(base, **changes):
    return type(f"Wrong{base.__name__}", (base,), changes)()


class Mixing(Passed):
    def call(self, x):
        return x + keras.ops.mean(x, axis=-1, keepdims=True)


class Unmakeable(LayerScale):
    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def get_config(self):
        return layers.Layer.get_config(self)


ONES = rules.Affine(np.ones(8), np.zeros(8))
FALSE_CLAIMS = {
    "scale": (LayerScale, wrong(LayerScaleRule, effect=lambda *_: ONES),
              "computes something else than WrongLayerScaleRule says"),
    "function": (Shrink, wrong(ShrinkRule, effect=lambda *_: rules.Nonlinear(
        rules.describe(keras.ops.tanh, 8))), "computes something else"),
    "pass": (LayerScale, wrong(PassedRule, types=(LayerScale,), axes={"gamma": ("in",)}),
             "computes something else"),
    "mixing": (Mixing, wrong(PassedRule, types=(Mixing,)), "computes something else"),
    "weights": (LayerScale, wrong(LayerScaleRule, axes={}),
                "has weights that `axes` of WrongLayerScaleRule leaves out: gamma"),
    "config": (lambda: Unmakeable(3), wrong(LayerScaleRule, types=(Unmakeable,)),
               "can't be made anew from its config: TypeError"),
}  # fmt: skip


@pytest.mark.parametrize("name", FALSE_CLAIMS)
def test_false_claims_leave_the_layer_a_barrier(name):
    layer, rule, words = FALSE_CLAIMS[name]
    model = chain(layer())
    dfprune.register_rule(rule)
    try:
        assert words in reason(model)
    finally:
        dfprune.unregister_rule(rule.types[0])


def test_a_producer_that_can_t_be_made_anew_is_refused():
    class Odd(MyDense):
        def __init__(self, units, secret, **kwargs):
            super().__init__(units, **kwargs)

    dfprune.register_rule(wrong(MyDenseRule, types=(Odd,)))
    model = chain(Odd(6, 1, name="odd"))
    refusals = dfprune.plan(model, sparsity=0.5).refusals
    reasons = {refusal.layer: refusal.reason for refusal in refusals}
    assert "it can't be made anew from its config" in reasons["odd"]
    dfprune.unregister_rule(Odd)


@pytest.mark.parametrize("rule, error, words", [
    (LayerScaleRule, TypeError, r"Pass an instance: register_rule\(MyRule\(\)\)"),
    ("LayerScale", TypeError, "Expected an instance of a subclass of keras_dfprune.rules.Rule"),
    (wrong(LayerScaleRule, types=()), ValueError, "must name in `types` the layers"),
    (wrong(LayerScaleRule, names=("Relu",)), ValueError, "no operations in `names`"),
    (wrong(LayerScaleRule, types=(int,)), TypeError, "must hold subclasses of keras.Layer"),
    (wrong(LayerScaleRule, types=(Dense,)), ValueError, "Dense already has a rule, DenseRule"),
])  # fmt: skip
def test_arguments_that_are_no_rule(rule, error, words):
    with pytest.raises(error, match=words):
        dfprune.register_rule(rule)


def test_registering_twice_and_removing_twice():
    dfprune.register_rule(LayerScaleRule())
    with pytest.raises(ValueError, match=r"removed first: unregister_rule\(LayerScale\)"):
        dfprune.register_rule(LayerScaleRule())
    dfprune.unregister_rule(LayerScale)
    with pytest.raises(ValueError, match="No rule was registered.*registered rule: none"):
        dfprune.unregister_rule(LayerScale)


class Twice(layers.Layer):
    def call(self, x):
        return x, 2.0 * x


class TwiceRule(rules.PassRule):
    types = (Twice,)


def test_a_rule_speaks_of_one_output_only():
    inputs = keras.Input((5,))
    _, doubled = Twice()(Dense(8, "relu", name="fc")(inputs))
    model = keras.Model(inputs, Dense(3)(doubled))
    dfprune.register_rule(TwiceRule())
    try:
        reasons = {each.layer: each.reason for each in dfprune.plan(model, tolerance=0).refusals}
    finally:
        dfprune.unregister_rule(Twice)
    assert "has several outputs" in reasons["fc"]
