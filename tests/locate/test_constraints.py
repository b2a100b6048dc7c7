"""Constraints that held before pruning hold afterwards: a step at rate 0 changes nothing."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune

layers, constraints = keras.layers, keras.constraints


class ZeroMean(constraints.Constraint):
    """Couples all weights: no cut survives it."""

    def __call__(self, w):
        return w - keras.ops.mean(w)


def full_shape_only(w):
    """Works for the full shape alone: masks half of 6 by 16 or of 16 by 3 weights."""
    return w * keras.ops.convert_to_tensor(np.arange(w.shape[0] * w.shape[1]).reshape(
        (6, 16) if w.shape[0] == 6 else (16, 3)) % 2, w.dtype)  # fmt: skip


def row_norm(w):
    """Bounds each row's norm: a function as a constraint."""
    return constraints.UnitNorm(axis=1)(w)


KINDS = {
    "unit norm": constraints.UnitNorm(),
    "unit norm of rows": constraints.UnitNorm(axis=1),
    "largest norm": constraints.MaxNorm(0.5),
    "not negative": constraints.NonNeg(),
    "range of norms": constraints.MinMaxNorm(0.5, 1.0),
    "zero mean": ZeroMean(),
    "a function": row_norm,
    "a function of the full shape": full_shape_only,
}


def net(where, constraint):
    """Dense, BatchNormalization and Dense; one variable has the constraint, and satisfies it."""
    keras.utils.set_random_seed(0)
    chosen = {where: constraint}
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(
                16,
                name="units",
                kernel_constraint=chosen.get("producer kernel"),
                bias_constraint=chosen.get("producer bias"),
            ),
            layers.BatchNormalization(gamma_constraint=chosen.get("gamma")),
            layers.Activation("relu"),
            layers.Dense(
                3,
                kernel_constraint=chosen.get("consumer kernel"),
                bias_constraint=chosen.get("consumer bias"),
            ),
        ]
    )
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        value = keras.ops.convert_to_tensor(random.normal(size=variable.shape), "float32")
        for _ in range(10 if variable.constraint is not None else 0):
            value = variable.constraint(value)
        variable.assign(value)
    return model


def trainable_values(model):
    return [np.array(variable) for variable in model.trainable_variables]


def step_at_rate_0(model):
    x = np.random.default_rng(1).normal(size=(8, 6)).astype("float32")
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.train_on_batch(x, model(x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("where", "method"), [("producer kernel", "moments"), ("consumer kernel", "saliency")]
)
@pytest.mark.filterwarnings("ignore:.*has nothing to prune")
def test_a_step_at_rate_0_changes_nothing(where, kind, method):
    pruned = dfprune.apply(net(where, KINDS[kind]), method=method, sparsity=0.5)
    before = trainable_values(pruned)
    step_at_rate_0(pruned)
    for old, new in zip(before, trainable_values(pruned), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("where", ["producer bias", "consumer bias", "gamma"])
@pytest.mark.filterwarnings("ignore:.*has nothing to prune")
def test_biases_and_scales_stay_as_constrained(where):
    pruned = dfprune.apply(net(where, constraints.NonNeg()), method="moments", sparsity=0.5)
    for variable in pruned.trainable_variables:
        if variable.constraint is not None:
            assert np.array(variable).min() >= 0


@pytest.mark.parametrize(
    ("where", "constraint", "units"),
    [
        ("producer kernel", constraints.UnitNorm(), 8),  # norms of units survive a cut
        ("producer kernel", constraints.NonNeg(), 8),
        ("producer kernel", constraints.UnitNorm(axis=1), 16),  # norms over units don't
        ("consumer kernel", constraints.MaxNorm(0.5), 16),
        ("consumer kernel", None, 8),
    ],
)
@pytest.mark.filterwarnings("ignore:.*has nothing to prune")
def test_only_what_a_constraint_might_forbid_is_refused(where, constraint, units):
    plan = dfprune.plan(net(where, constraint), sparsity=0.5)
    kept = [len(group.kept) for group in plan.groups]
    assert kept == ([8] if units == 8 else [])
    if units == 16:
        reasons = [refusal.reason for refusal in plan.refusals if refusal.layer == "units"]
        assert "set kernel_constraint=None to prune" in reasons[0]


def test_a_constraint_that_the_original_breaks_is_no_reason():
    model = net("consumer kernel", constraints.MaxNorm(0.5))
    model.layers[-1].kernel.assign(100 * np.ones((16, 3)))
    assert dfprune.apply(model, sparsity=0.5).get_layer("units").units == 8


def test_the_plan_says_that_a_regularization_loss_changes():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(16, "relu"), layers.Dense(3, kernel_regularizer="l2")]
    )
    plan = dfprune.plan(model, sparsity=0.5)
    assert f"the regularization loss changes: {model.layers[1].name}" in plan.notes


def test_the_refinement_leaves_constrained_variables_as_they_are():
    model = net("producer kernel", constraints.NonNeg())
    plan = dfprune.plan(model, refine_steps=30, sparsity=0.5)
    pruned = plan.apply(model)
    assert plan.refined["units"].step > 0
    assert np.array(pruned.get_layer("units").kernel).min() >= 0
