"""Comparisons of models and files whose differences are known."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dfprune as dfprune
from tests.support.exported import convolutional, rows, several

layers = keras.layers


def linear(kernel, bias, **named):
    """Build a model that computes `x @ kernel + bias`."""
    kernel, bias = np.asarray(kernel, "float32"), np.asarray(bias, "float32")
    model = keras.Sequential(
        [keras.Input((kernel.shape[0],), name="x"), layers.Dense(kernel.shape[1])], **named
    )
    model.set_weights([kernel, bias])
    return model


X = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 3.0]], "float32")
BEFORE = linear(np.eye(2), [0, 0], name="before")
AFTER = linear(np.eye(2), [2, 0], name="after")  # the first output is 2 larger


def test_differences_counted_by_hand():
    result = dfprune.compare(BEFORE, AFTER, X)
    (output,) = result.outputs
    assert result.names == ("before", "after") and result.rows == 4
    assert (result.parameters, result.bytes) == ((6, 6), (24, 24))
    assert output.max_abs_difference == 2.0
    assert output.max_relative_difference == pytest.approx(2 / 3)
    variance = 2 * np.var([1.0, 0.0, 3.0, 0.0])
    assert output.squared_change == pytest.approx(4 / variance)
    assert output.agreement == 0.75  # in the second row the other entry is the largest
    assert result.metrics == () and result.notes == ()


def test_a_model_and_itself():
    (output,) = dfprune.compare(BEFORE, BEFORE, X).outputs
    assert output == dfprune.compare(BEFORE, BEFORE, {"x": X}).outputs[0]
    assert (output.max_abs_difference, output.squared_change, output.agreement) == (0, 0, 1)


def test_one_row_has_no_variance():
    (output,) = dfprune.compare(BEFORE, AFTER, X[:1]).outputs
    assert output.squared_change is None and output.max_abs_difference == 2.0


@pytest.mark.parametrize("name", ["m.keras", "m.tflite", "saved"])
@pytest.mark.parametrize("build", [convolutional, several])
def test_a_model_and_its_file(tmp_path, build, name):
    model = build()
    dfprune.export(model, tmp_path / name)
    for pair in ((model, tmp_path / name), (tmp_path / name, model)):
        result = dfprune.compare(*pair, rows(model, 100))
        assert result.rows == 100 and len(result.outputs) == len(model.outputs)
        assert all(output.max_relative_difference < 1e-5 for output in result.outputs)
        assert result.bytes[pair.index(tmp_path / name)] > 0


def test_files_of_fixed_batch_and_of_integers(tmp_path):
    model = convolutional()
    data = rows(model, 70)
    dfprune.export(model, tmp_path / "f.tflite", batch_size=3)
    dfprune.export(model, tmp_path / "q.tflite", "int8", data, "int8", batch_size=1)
    result = dfprune.compare(tmp_path / "f.tflite", tmp_path / "q.tflite", data)
    assert result.rows == 70 and result.parameters == (None, None)
    assert 0 < result.outputs[0].max_abs_difference < 0.1
    assert str(result).count("unknown") == 2


def test_class_numbers_and_one_hot_classes():
    for labels in ([0, 1, 0, 1], [[0], [1], [0], [1]], np.eye(2)[[0, 1, 0, 1]]):
        (metric,) = dfprune.compare(BEFORE, AFTER, (X, np.array(labels))).metrics
        assert (metric.metric, metric.output) == ("accuracy", "output_0")
        assert (metric.before, metric.after) == (1.0, 0.75)
    result = dfprune.compare(BEFORE, AFTER, (X, np.array([0, 1, 0, 1])))
    assert "accuracy of output_0       1   0.75" in str(result)


def test_targets_are_compared_by_squared_error():
    (metric,) = dfprune.compare(BEFORE, AFTER, (X, X)).metrics
    assert (metric.metric, metric.before, metric.after) == ("mean squared error", 0.0, 2.0)
    single = linear([[1.0], [0.0]], [1.0])
    for labels in (X[:, 0], X[:, :1]):
        (metric,) = dfprune.compare(single, single, (X, labels)).metrics
        assert (metric.metric, metric.before) == ("mean squared error", 1.0)


def compiled(metrics):
    model = linear(np.eye(2), [0, 0])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True), metrics=metrics)
    return model


def test_compiled_metrics_are_those_of_evaluate_and_keep_their_state():
    labels = np.array([0, 1, 1, 1])
    metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, "top")]
    model = compiled(metrics)
    expected = model.evaluate(X, labels, verbose=0, return_dict=True)
    state = [variable.numpy() for metric in model.metrics for variable in metric.variables]
    result = dfprune.compare(model, model, (X, labels))
    shared = {metric.metric: metric.before for metric in result.metrics if metric.output is None}
    assert shared == {"accuracy": expected["accuracy"], "top": expected["top"]}
    after = [variable.numpy() for metric in model.metrics for variable in metric.variables]
    assert all(np.array_equal(a, b) for a, b in zip(state, after, strict=True))


def test_compiled_metrics_of_files_and_of_several_outputs(tmp_path):
    model = several()
    loss = keras.losses.SparseCategoricalCrossentropy(True)
    model.compile(loss={"wide": loss, "narrow": "mse"}, metrics={"narrow": ["mae"]})
    dfprune.export(model, tmp_path / "m.keras")
    data = rows(model, 9)
    labels = {"wide": np.arange(9) % 4, "narrow": np.ones((9, 1))}
    expected = model.evaluate(data, labels, verbose=0, return_dict=True)
    result = dfprune.compare(model, tmp_path / "m.keras", (data, labels))
    values = {(metric.metric, metric.output): metric.after for metric in result.metrics}
    assert values["narrow_mae", None] == pytest.approx(expected["narrow_mae"], rel=1e-5)
    assert set(values) == {
        ("accuracy", "wide"), ("mean squared error", "narrow"), ("narrow_mae", None)
    }  # fmt: skip


def test_a_metric_that_fails_is_noted():
    def failing(labels, outputs):
        raise ValueError("no such measure")

    result = dfprune.compare(compiled([failing]), compiled([failing]), (X, np.array([0, 1, 0, 1])))
    assert [metric.output for metric in result.metrics] == ["output_0"]
    assert "no such measure" in result.notes[0] and "Not computed" in str(result)


def test_numbers_that_are_not_finite_in_json():
    broken = linear(np.eye(2), [np.nan, 0])
    content = json.loads(json.dumps(dfprune.compare(BEFORE, broken, X).to_dict(), allow_nan=False))
    assert float(content["outputs"][0]["max_abs_difference"]) == np.inf
    assert content["parameters"] == [6, 6]


def test_rows_that_come_in_batches():
    def endless():
        while True:
            yield X

    assert dfprune.compare(BEFORE, AFTER, endless).rows == 8192
    assert dfprune.compare(BEFORE, AFTER, np.zeros((9000, 2))).rows == 9000


NAMED = keras.Input((2,), name="a"), keras.Input((2,), name="b")
TWO = keras.Model(NAMED, layers.Add()(NAMED))


@pytest.mark.parametrize(
    ("after", "data", "message"),
    [
        (AFTER, X[:, :1], "`data` doesn't fit input 'x'"),
        (AFTER, np.full((3, 2), np.nan), "`data` has NaN in column 0"),
        (AFTER, (X, np.zeros(3, int)), "one label for each row.*4 row"),
        (AFTER, (X, np.full(4, 2)), "class numbers in 0 to 1.*2 to 2"),
        (AFTER, (X, np.zeros((4, 3))), "labels don't fit output 'output_0'"),
        (AFTER, (X, np.full((4, 2), np.nan)), "must be finite numbers"),
        (AFTER, (X, {"other": np.zeros(4)}), "Received: keys=\\['other'\\]"),
        (linear(np.eye(3), [0] * 3), X, "inputs of the same shapes and dtypes"),
        (linear(np.ones((2, 3)), [0] * 3), X, "outputs of the same shapes.*after=\\(4, 3\\)"),
        (TWO, X, "with the same inputs.*after=\\['a', 'b'\\]"),
        (3, X, "Received: after=3"),
        ("missing.tflite", X, "No such file"),
        ("missing.bin", X, "No such file"),
    ],
)
def test_mistakes_are_one_clear_sentence(after, data, message):
    with pytest.raises((ValueError, TypeError, OSError), match=message) as caught:
        dfprune.compare(BEFORE, after, data)
    assert "\n" not in str(caught.value)


def test_two_arrays_for_two_inputs_are_no_labels():
    assert dfprune.compare(TWO, TWO, (X, X)).metrics == ()
    assert len(dfprune.compare(TWO, TWO, ([X, X], 2 * X)).metrics) == 1


def test_a_litert_file_without_signatures(tmp_path):
    twice = tf.function(lambda x: 2.0 * x, input_signature=[tf.TensorSpec((1, 2), name="x")])
    function = twice.get_concrete_function()
    content = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
    (tmp_path / "twice.tflite").write_bytes(content)
    result = dfprune.compare(linear(2 * np.eye(2), [0, 0]), tmp_path / "twice.tflite", X)
    assert result.outputs[0].max_abs_difference == 0.0
