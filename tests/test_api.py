"""The interface: what may be asked for, what comes back, and what is refused with which words."""

import keras
import numpy as np
import pytest

import keras_dfprune as dfprune
from tests.models import dense_chain, inputs_of, outputs

layers = keras.layers


def widths(model):
    return [layer.units for layer in model.layers if isinstance(layer, layers.Dense)]


def test_sparsity_is_the_fraction_of_units_removed():
    model = dense_chain([22, 10, 3])
    assert widths(dfprune.apply(model, sparsity=15 / 22)) == [7, 3, 3]
    assert widths(dfprune.apply(model, sparsity=0)) == [22, 10, 3]
    assert widths(dfprune.apply(model, sparsity=0.25)) == [16, 7, 3]  # 5.5 and 2.5: up
    assert widths(dfprune.apply(model, sparsity=0.999)) == [1, 1, 3]
    assert widths(dfprune.apply(model, sparsity=np.float32(0.5))) == [11, 5, 3]


def test_sparsity_by_layer_leaves_the_others_whole():
    model = dense_chain([22, 10, 3])
    assert widths(dfprune.apply(model, sparsity={"fc2": 0.5})) == [22, 5, 3]
    assert widths(dfprune.apply(model, sparsity=0.5, layers=["fc1"])) == [11, 10, 3]
    assert widths(dfprune.apply(model, sparsity=0.5, layers="fc1")) == [11, 10, 3]


def nested_model():
    def inner(name):
        return keras.Sequential(
            [keras.Input((6,)), layers.Dense(8, "relu", name="fc1"), layers.Dense(6, name="fc2")],
            name=name,
        )

    inputs = keras.Input((6,))
    hidden = inner("right")(layers.Dense(6, "relu", name="first")(inner("left")(inputs)))
    return keras.Model(inputs, layers.Dense(2, name="head")(hidden))


def test_layers_of_nested_models_are_named_by_their_paths():
    pruned = dfprune.apply(nested_model(), sparsity={"left/fc1": 0.5, "first": 0.5})
    assert pruned.get_layer("left").get_layer("fc1").units == 4
    assert pruned.get_layer("right").get_layer("fc1").units == 8
    assert pruned.get_layer("first").units == 3
    assert pruned.get_layer("right").input_shape == (None, 3)


@pytest.mark.parametrize(
    ("sparsity", "message"),
    [
        ({"fc1": 0.5}, "'fc1' is ambiguous. Use one of the paths left/fc1, right/fc1"),
        ({"frist": 0.5}, "There is no layer 'frist'. Did you mean 'first'?"),
        ({"left/fc1": 1.0}, r"`sparsity\['left/fc1'\]` must be a number in \[0, 1\).*1.0"),
        ({"first": 0.2, "left": 0.1}, "Layer 'left' has no units that can be pruned"),
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
        ({"tolerance": 0.1}, 'Use method="moments".*tolerance=0.1'),
        ({"tolerance": -1, "method": "moments"}, "`tolerance` must be a number of at least 0"),
        ({"max_params": True}, "`max_params` must be a positive number"),
        ({"max_params": float("inf")}, "`max_params` must be a positive number.*inf"),
        ({"max_params": 0}, "`max_params` must be a positive number"),
        ({"max_params": float("nan")}, "`max_params` must be a positive number.*nan"),
        ({"max_params": "100"}, "`max_params` must be a positive number.*'100'"),
        ({"tolerance": True}, "`tolerance` must be a number of at least 0. Received: True"),
        ({"tolerance": float("inf")}, "`tolerance` must be a number of at least 0.*inf"),
        ({"sparsity": {"fc1": float("nan")}}, r"`sparsity\['fc1'\]` must be a number.*nan"),
        ({"sparsity": {"fc1": True}}, r"`sparsity\['fc1'\]` must be a number.*True"),
        ({"sparsity": {3: 0.5}}, "There is no layer '3'. Layers: fc1, fc2, fc3"),
        ({"layers": 3}, "`layers` must be a list of layer names. Received: layers=3"),
        ({"method": dfprune.Saliency}, "or a `keras_dfprune.Method`. Received: .*Saliency"),
        ({"method": "magic"}, "`method` must be one of 'saliency', 'moments'.*'magic'"),
        ({"sparsity": {"fc1": 0.1}, "layers": ["fc1"]}, "in `sparsity` or in `layers`, not in"),
        ({"layers": ["fc9"]}, "There is no layer 'fc9'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        dfprune.plan(dense_chain([5, 4, 3]), **arguments)


@pytest.mark.parametrize("method", ["saliency", "moments"])
@pytest.mark.parametrize("budget", [3000, 1500, 400])
def test_max_params_bounds_the_whole_model(method, budget):
    model = dense_chain([40, 30, 20, 5])
    plan = dfprune.plan(model, max_params=budget, method=method)
    pruned = plan.apply(model)
    assert pruned.count_params() == plan.parameters[1] <= budget
    assert plan.parameters[0] == model.count_params()
    if budget < model.count_params():
        assert plan.parameters[1] > 0.85 * budget  # and doesn't fall far below it


def test_max_params_counts_biases_that_consumers_gain():
    model = dense_chain([12, 8, 4], "tanh", use_bias=False)
    plan = dfprune.plan(model, max_params=60, method="moments")
    assert plan.apply(model).count_params() == plan.parameters[1] <= 60


def test_max_params_that_can_t_be_reached():
    with pytest.raises(ValueError, match="can't be reached.*still has 15 parameters"):
        dfprune.plan(dense_chain([8, 8, 3]), max_params=14)
    assert dfprune.apply(dense_chain([8, 8, 3]), max_params=15).count_params() == 15


def test_one_warning_where_nothing_can_be_pruned():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="only")])
    with pytest.warns(UserWarning, match="nothing to prune. only: its units are an output") as seen:
        pruned = dfprune.apply(model, sparsity=0.5)
    assert len(seen) == 1
    assert widths(pruned) == [3]


def test_one_warning_where_a_named_layer_is_refused():
    model = dense_chain([8, 3])
    with pytest.warns(UserWarning, match="left whole although they were named: fc2") as seen:
        dfprune.plan(model, sparsity={"fc2": 0.5})
    assert len(seen) == 1


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.fc = layers.Dense(3)

    def call(self, x):
        return self.fc(x)


class OldModel:
    """Stands in for a model of Keras 2."""


OldModel.__module__ = "tf_keras.src.engine.training"


def test_what_is_no_model():
    with pytest.raises(TypeError, match="Expected a `keras.Model`. Received: 3 of type int"):
        dfprune.apply(3)
    with pytest.raises(TypeError, match="this is a tf_keras"):
        dfprune.apply(OldModel())
    with pytest.raises(ValueError, match="isn't built yet.*Add a `keras.Input`"):
        dfprune.apply(keras.Sequential([layers.Dense(3)]))
    model = Subclassed()
    model(np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"Make it functional first:.*functionalize\(model"):
        dfprune.apply(model)


def state_of(model):
    nodes = [len(layer._inbound_nodes) + len(layer._outbound_nodes) for layer in model.layers]
    variables = [v.numpy() for v in [*model.variables, *model.optimizer.variables]]
    metrics = [v.numpy() for v in model.metrics_variables]
    return nodes, str(model.get_config()), [v.tolist() for v in [*variables, *metrics]]


@pytest.mark.parametrize("method", ["saliency", "moments"])
def test_the_model_passed_in_is_not_changed(method, capsys):
    model = dense_chain([10, 8, 3])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((8, 6)), np.ones((8, 3)), verbose=0)
    before = state_of(model)
    dfprune.apply(model, sparsity=0.5, method=method)
    assert state_of(model) == before
    assert capsys.readouterr().out == ""


def test_verbose_prints_the_table(capsys):
    dfprune.plan(dense_chain([10, 3]), sparsity=0.5, verbose=1)
    assert "fc1    10 -> 5   50.0 %" in capsys.readouterr().out


class Alternate(dfprune.Method):
    """A user's own method: drops the units with the smallest outgoing weights."""

    def curve(self, group, context):
        sizes = (group.outgoing_matrix() ** 2).sum(axis=1)
        order = np.argsort(sizes)[:-1]

        def merge(count):
            kept = np.sort(np.setdiff1d(np.arange(group.units), order[:count]))
            none = np.full(count, -1)
            return dfprune.SurvivorMerge(
                kept, order[:count], np.zeros(group.units), none, np.zeros(count)
            )

        return dfprune.Curve(order=order, costs=sizes[order], merge=merge)


def test_a_user_s_own_method():
    model = dense_chain([10, 8, 3])
    pruned = dfprune.apply(model, sparsity=0.5, method=Alternate())
    assert widths(pruned) == [5, 4, 3]
    sizes = (model.get_layer("fc2").kernel.numpy() ** 2).sum(axis=1)
    kept = np.sort(np.argsort(sizes)[5:])
    kernel = model.get_layer("fc1").kernel.numpy()
    np.testing.assert_array_equal(pruned.get_layer("fc1").kernel.numpy(), kernel[:, kept])
    assert dfprune.apply(model, max_params=60, method=Alternate()).count_params() <= 60
    with pytest.raises(ValueError, match="'alternate' has no automatic cut-off"):
        dfprune.apply(model, method=Alternate())
    with pytest.raises(ValueError, match="predicts no error"):
        dfprune.apply(model, method=Alternate(), tolerance=0.1)


def test_tolerance_bounds_the_predicted_error():
    model = dense_chain([40, 30, 5], seed=2)
    removed = []
    for tolerance in (0.01, 0.1, 0.5):
        plan = dfprune.plan(model, method="moments", tolerance=tolerance)
        assert all(group.predicted_error <= tolerance for group in plan.groups)
        removed.append(sum(len(group.removed) for group in plan.groups))
    assert removed == sorted(removed) and removed[0] < removed[-1]


def test_calibration_data_sharpens_moments():
    model = dense_chain([40, 5], seed=4)
    random = np.random.default_rng(0)
    directions = random.normal(size=(2, 6))
    x = (random.normal(size=(500, 2)) @ directions).astype("float32")
    errors = []
    for data in (None, x):
        pruned = dfprune.apply(model, sparsity=0.8, method=dfprune.Moments(calibration_data=data))
        errors.append(np.mean((outputs(pruned, x) - outputs(model, x)) ** 2))
    assert errors[1] < 0.5 * errors[0]
    with pytest.raises(ValueError, match="`calibration_data` doesn't fit"):
        dfprune.apply(model, method=dfprune.Moments(calibration_data=np.ones((3, 5))))


def test_result_can_be_trained_on_and_names_stay():
    model = dense_chain([10, 8, 3])
    model.get_layer("fc1").trainable = False
    model.compile("adam", "mse")
    pruned = dfprune.apply(model, sparsity=0.5)
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    assert isinstance(pruned, keras.Sequential) and pruned.name == model.name
    assert not pruned.get_layer("fc1").trainable and pruned.get_layer("fc2").trainable
    frozen, before = pruned.get_layer("fc1").kernel.numpy(), outputs(model, inputs_of(model))
    moving = pruned.get_layer("fc2").kernel.numpy()
    pruned.fit(np.ones((8, 6)), np.ones((8, 3)), verbose=0)
    np.testing.assert_array_equal(frozen, pruned.get_layer("fc1").kernel.numpy())
    assert np.any(moving != pruned.get_layer("fc2").kernel.numpy())
    np.testing.assert_array_equal(before, outputs(model, inputs_of(model)))
