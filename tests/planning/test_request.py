"""Wrong arguments are errors, and requests without effect are warnings."""

import keras
import pytest

import keras_dfprune as dfprune
from tests.support.models import dense_chain, nested_model

layers = keras.layers


@pytest.mark.parametrize(
    ("sparsity", "message"),
    [
        ({"fc1": 0.5}, "'fc1' is ambiguous. Use one of the paths left/fc1, right/fc1"),
        ({"frist": 0.5}, "There is no layer 'frist'. Did you mean 'first'?"),
        ({"left/fc1": 1.0}, r"`sparsity\['left/fc1'\]` must be a number in \[0, 1\).*1.0"),
        ({"left": 0.2, "left/fc1": 0.1}, "names layer 'left/fc1' twice, with 0.2 and 0.1"),
    ],
)
def test_wrong_names(sparsity, message):
    with pytest.raises(ValueError, match=message):
        dfprune.plan(nested_model(), sparsity=sparsity)


def test_a_layer_named_twice():
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "relu", name="fc1"), layers.Dense(6, name="fc2")],
        name="inner",
    )
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(inner(inputs)))
    with pytest.raises(ValueError, match="names layer 'inner/fc1' twice, with 0.5 and 0.25"):
        dfprune.plan(model, sparsity={"inner/fc1": 0.5, "fc1": 0.25})
    plan = dfprune.plan(model, sparsity={"inner/fc1": 0.5, "fc1": 0.5})
    assert [len(group.kept) for group in plan.groups] == [4]


@pytest.mark.parametrize("value", [1.0, -0.1, float("nan"), True, "half", [0.5]])
def test_wrong_sparsity(value):
    with pytest.raises(ValueError, match=r"`sparsity` must be a number in \[0, 1\).*Received"):
        dfprune.apply(dense_chain([5, 3]), sparsity=value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 0.5, "max_params": 10}, "at most one of.*sparsity=0.5, max_params=10"),
        ({"sparsity": 0.5, "tolerance": 0}, "at most one of"),
        ({"tolerance": -1}, "`tolerance` must be a number of at least 0"),
        ({"max_params": True}, "`max_params` must be a fraction.*True"),
        ({"max_params": float("inf")}, "`max_params` must be a fraction.*inf"),
        ({"max_params": 0}, "`max_params` must be a fraction.*Received: 0"),
        ({"max_params": 0.0}, r"`max_params` must be a fraction.*Received: 0\.0"),
        ({"max_params": 1.0}, r"an integer of at least 1. Received: 1\.0"),
        ({"max_params": 1e5}, "an integer of at least 1. Received: 100000.0"),
        ({"max_params": float("nan")}, "`max_params` must be a fraction.*nan"),
        ({"max_params": "100"}, "`max_params` must be a fraction.*'100'"),
        ({"refine_steps": -1}, "`refine_steps` must be an integer, 0 or more. Received: -1"),
        ({"refine_steps": 1.5}, "`refine_steps` must be an integer, 0 or more. Received: 1.5"),
        ({"refine_steps": True}, "`refine_steps` must be an integer, 0 or more. Received: True"),
        ({"tolerance": True}, "`tolerance` must be a number of at least 0. Received: True"),
        ({"tolerance": float("inf")}, "`tolerance` must be a number of at least 0.*inf"),
        ({"sparsity": {"fc1": float("nan")}}, r"`sparsity\['fc1'\]` must be a number.*nan"),
        ({"sparsity": {"fc1": True}}, r"`sparsity\['fc1'\]` must be a number.*True"),
        (
            {"sparsity": {3: 0.5}},
            "There is no layer '3' that is this object. Layers: fc1, fc2, fc3",
        ),
        ({"layers": 3}, "`layers` must be a list of layers, by name.* Received: layers=3"),
        ({"method": dfprune.Saliency}, r"Pass an instance: Saliency\(\). Received: .*Saliency"),
        ({"method": "magic"}, "`method` must be one of 'saliency', 'moments'.*'magic'"),
        ({"sparsity": {"fc1": 0.1}, "layers": ["fc1"]}, "in `sparsity` or in `layers`, not in"),
        ({"layers": ["fc9"]}, "There is no layer 'fc9'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        dfprune.plan(dense_chain([5, 4, 3]), **arguments)


def test_max_params_that_can_t_be_reached():
    with pytest.raises(ValueError, match="can't be reached.*still has 15 parameters"):
        dfprune.plan(dense_chain([8, 8, 3]), max_params=14)
    assert dfprune.apply(dense_chain([8, 8, 3]), max_params=15).count_params() == 15


def test_max_params_may_be_a_fraction():
    model = dense_chain([40, 30, 5])
    size = model.count_params()
    half = dfprune.plan(model, max_params=0.5)
    assert 0.45 * size < half.parameters[1] <= 0.5 * size
    counted = dfprune.plan(model, max_params=size // 2)
    assert counted.parameters == half.parameters
    with pytest.raises(ValueError, match="`max_params=0.001` can't be reached.*still has"):
        dfprune.plan(model, max_params=0.001)


def one_layer(layer, shape=(4,)):
    return keras.Sequential([keras.Input(shape), layer, layers.Flatten(), layers.Dense(2)])


@pytest.mark.parametrize(
    ("layer", "arguments", "message"),
    [
        (layers.Conv1D(6, 2), {"method": "saliency"}, "for Dense layers only; give `sp"),
        (
            layers.Dense(6, "exponential"),
            {"method": "saliency", "sparsity": 0.5},
            "lossless removals only: the",
        ),
        (layers.Dense(6, "relu"), {"sparsity": 0.05}, "less than half a unit in each layer"),
    ],
)
def test_one_warning_where_nothing_is_removed(layer, arguments, message):
    with pytest.warns(UserWarning, match=f"Nothing is removed from model.*{message}") as seen:
        dfprune.plan(one_layer(layer, (5, 3)), **arguments)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "arguments", [{"sparsity": 0}, {"tolerance": 0}, {"max_params": 100_000}, {"layers": []}]
)
def test_no_warning_where_nothing_has_to_be_removed(arguments, recwarn):
    plan = dfprune.plan(one_layer(layers.Conv1D(6, 2), (5, 3)), **arguments)
    assert plan.parameters[0] == plan.parameters[1]
    assert not recwarn.list


def test_a_prior_without_effect_is_an_error_or_a_warning():
    inputs = keras.Input((6,), name="x")
    hidden = layers.Dense(8, "relu")(layers.Rescaling(2.0)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    with pytest.raises(ValueError, match="`prior` must name inputs of the model: 'x'.*'input'"):
        dfprune.plan(model, sparsity=0.5, method=dfprune.Moments(prior={"input": (0.0, 1.0)}))
    with pytest.warns(UserWarning, match="prior of input 'x' is not used"):
        dfprune.plan(model, sparsity=0.5, method=dfprune.Moments(prior={"x": (0.0, 1.0)}))
