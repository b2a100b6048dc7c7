"""The bound on which the saliency rests holds for each output, and the check can fail.

`(dz_o)^2 <= L^2 a_jo^2 ||W_i - W_j||^2 ||(x, 1)||^2` for one removal with surgery.
"""

import keras
import numpy as np
import pytest

from keras_dfprune.rules.activations import describe

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu", "softplus",
               "hard_silu", "mish")  # fmt: skip
LAYERS = 20


def violations(name, normalize, slope_factor=1.0, with_one=True):
    """Count the random layers in which some output exceeds the bound."""
    activation = describe(keras.activations.get(name))
    broken = 0
    for seed in range(LAYERS):
        random = np.random.default_rng(seed)
        sets = random.normal(size=(2, 5)) * random.uniform(0.1, 2)
        sets[1] = sets[0] + random.normal(size=5) * random.uniform(0.01, 1)
        sets[:, -1] += random.choice([0, 30]) * (name in ("relu", "leaky_relu"))
        outgoing = random.normal(size=(2, 3))
        x = random.normal(size=(200, 4)) * random.uniform(0.01, 1)
        scale = np.linalg.norm(sets, axis=1) if normalize else np.ones(2)
        extended = np.concatenate([x, np.ones((200, 1))], axis=1)
        values = activation.values(extended @ sets.T)
        before = values @ outgoing
        after = values[:, :1] @ (outgoing[:1] + scale[1] / scale[0] * outgoing[1:])
        apart = np.sum((sets[0] / scale[0] - sets[1] / scale[1]) ** 2)
        sizes = np.sum((extended if with_one else x) ** 2, axis=1)
        weight = (scale[1] * outgoing[1]) ** 2
        bound = (slope_factor * activation.slope) ** 2 * weight * apart * sizes[:, None]
        broken += bool(np.any((before - after) ** 2 > bound * (1 + 1e-9) + 1e-18))
    return broken


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_bound_holds_for_every_output(name):
    assert violations(name, normalize=False) == 0
    if describe(keras.activations.get(name)).homogeneous:
        assert violations(name, normalize=True) == 0


@pytest.mark.parametrize("normalize", [False, True])
def test_a_wrong_bound_is_seen(normalize):
    assert violations("relu", normalize, slope_factor=0.5) > 0
    assert violations("relu", normalize, with_one=False) > 0
