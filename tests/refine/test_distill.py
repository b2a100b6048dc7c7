"""Distillation: its objective falls and never rises, and equal lessons give equal weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dfprune.refine.distill import Lessons, train_to_follow


def draw(rows, seed):
    return tf.random.stateless_normal((rows, 6), seed)


def lessons(wide, seed=0, **settings):
    """Return lessons of fresh normal draws, and 512 of them held out in two batches."""
    held_out = draw(512, [seed, -1])
    variances = [np.sum(np.var(output, axis=0)) for output in tf.nest.flatten(wide(held_out))]
    return Lessons(
        batch=lambda step: draw(64, [seed, step]),
        held_out=[held_out[:300], held_out[300:]],
        variances=variances,
        **settings,
    )


def models(heads=1, seed=0):
    """A wide and a narrow network on six inputs."""
    keras.utils.set_random_seed(seed)

    def make(units):
        inputs = keras.Input((6,))
        hidden = keras.layers.Dense(units, activation="relu")(inputs)
        outputs = {f"head{k}": keras.layers.Dense(3)(hidden) for k in range(heads)}
        return keras.Model(inputs, outputs)

    return make(16), make(6)


def run(steps, seed=0, heads=1, **settings):
    wide, narrow = models(heads)
    given = lessons(wide, seed, **settings)
    result = train_to_follow(wide, narrow, narrow.trainable_variables, given, steps=steps)
    return result, wide, narrow


@pytest.mark.parametrize("heads", [1, 2])
def test_the_objective_falls(heads):
    result, wide, narrow = run(steps=300, heads=heads)
    assert result.after < 0.3 * result.before
    # The objective by its definition, on the same held-out rows.
    inputs = draw(512, np.array([0, -1]))
    ratios = []
    for name, wanted in wide(inputs).items():
        change = np.sum(np.mean(np.square(wanted - narrow(inputs)[name]), axis=0))
        ratios.append(change / np.sum(np.var(wanted, axis=0)))
    assert result.after == pytest.approx(np.mean(ratios), rel=1e-4)


def test_a_seed_repeats_the_weights_and_another_seed_changes_them():
    first, again, other = (run(steps=20, seed=seed)[2].get_weights() for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    # The training draws differ too: other held-out rows alone move the weights by 1e-6.
    assert max(np.max(np.abs(one - two)) for one, two in zip(first, other, strict=True)) > 1e-3


def test_the_start_is_kept_if_all_steps_are_worse():
    _, narrow = models()
    start = narrow.get_weights()
    result, _, narrow = run(steps=30, rate=1e3)
    assert (result.after, result.step) == (result.before, 0)
    for one, two in zip(start, narrow.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_no_steps_change_nothing():
    result, _, narrow = run(steps=0)
    assert result.before == result.after > 0
    for one, two in zip(models()[1].get_weights(), narrow.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_only_the_given_variables_move_and_progress_is_reported():
    wide, narrow = models()
    start, reports = narrow.get_weights(), []
    train_to_follow(
        wide,
        narrow,
        narrow.trainable_variables[2:],
        lessons(wide),
        steps=40,
        progress=lambda step, value: reports.append((step, value)),
    )
    moved = [np.any(a != b) for a, b in zip(start, narrow.get_weights(), strict=True)]
    assert moved == [False, False, True, True]
    assert [step for step, _ in reports] == list(range(2, 41, 2))
    assert all(value > 0 for _, value in reports)


def test_steps_without_finite_gradients_change_nothing():
    wide, narrow = models()
    good = lessons(wide)

    def batch(step):
        return np.nan * good.batch(step) if step % 2 else good.batch(step)

    given = Lessons(batch=batch, held_out=good.held_out, variances=good.variances)
    result = train_to_follow(wide, narrow, narrow.trainable_variables, given, steps=300)
    assert result.after < 0.8 * result.before


def test_the_loss_scale_falls_until_the_gradients_are_finite():
    scaled, _, narrow = run(steps=60, loss_scale=2.0**126)
    assert scaled.after < 0.9 * scaled.before
    plain = run(steps=60, loss_scale=2.0**10)[2]
    unscaled = run(steps=60)[2]
    for one, two in zip(plain.get_weights(), unscaled.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_an_interrupted_training_leaves_the_best_weights():
    wide, narrow = models()
    differences = []

    def stop(step, difference):
        differences.append(difference)
        if step == 40:
            raise KeyboardInterrupt

    given = lessons(wide)
    with pytest.raises(KeyboardInterrupt):
        train_to_follow(wide, narrow, narrow.trainable_variables, given, steps=200, progress=stop)
    again = train_to_follow(wide, narrow, narrow.trainable_variables, given, steps=0)
    assert again.before == min(differences)
