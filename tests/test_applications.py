"""Published architectures of `keras.applications`: planted copies come out exactly."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests import random_graphs

applications = keras.applications
SMALL = {"weights": None, "input_shape": (32, 32, 3)}
ARGUMENTS = {**SMALL, "classes": 10, "classifier_activation": None}
HEADLESS = {**SMALL, "include_top": False, "pooling": "avg"}
ARCHITECTURES = {
    "ResNet50": lambda: applications.ResNet50(**ARGUMENTS),
    "MobileNetV2": lambda: applications.MobileNetV2(alpha=0.35, **ARGUMENTS),
    "MobileNetV3": lambda: applications.MobileNetV3Small(**ARGUMENTS),
    "VGG16": lambda: applications.VGG16(**HEADLESS),
    "EfficientNet": lambda: applications.EfficientNetB0(**ARGUMENTS),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_planted_copies_come_out_exactly(name):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model = ARCHITECTURES[name]()
    random = np.random.default_rng(0)
    adapted = [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
    measured = {variable.path for layer in adapted for variable in layer.weights}
    for variable in model.weights:
        if variable.path in measured:
            continue  # they take effect when the layer is adapted or loaded
        if "moving_variance" in variable.path:
            variable.assign(random.uniform(0.5, 2.0, variable.shape))
        elif len(variable.shape) == 1:
            base = 1.0 if variable.path.endswith("gamma") else 0.0
            variable.assign(base + random.normal(0, 0.1, variable.shape))
    groups = random_graphs.plant_copies(model)
    images = random.uniform(0, 1, (2, 32, 32, 3)).astype("float32")
    before = np.asarray(model(images, training=False))
    plan = dfprune.plan(model, tolerance=0)
    assert [group.layer for group in plan.groups] == groups
    assert all(len(group.removed) >= 1 for group in plan.groups)
    reasons = [refusal.reason for refusal in plan.refusals]
    assert reasons == ["its units are an output of the model"]
    pruned = plan.apply(model)
    assert pruned.count_params() == plan.parameters[1]
    after = np.asarray(pruned(images, training=False))
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()
    keras.backend.clear_session()
