"""One warning says why most of a model stays whole; models that prune well get none."""

import keras
import pytest

import keras_dfprune as dfprune

layers = keras.layers
Layer, Inputs, Dense = keras.layers.Layer, keras.Input, layers.Dense


class Unknown(Layer):
    def call(self, x):
        return x


def normalized():
    """Build a model whose first layer feeds a LayerNormalization."""
    return [Inputs((8,)), Dense(40, name="fc"), layers.LayerNormalization(name="ln"), Dense(3)]


def pooled_filters():
    filters = [layers.Conv1D(30, 3, activation="relu", name=name) for name in ("conv1", "conv2")]
    return [Inputs((9, 2)), *filters, layers.GlobalMaxPooling1D(), Dense(9, "relu"), Dense(2)]


@pytest.mark.parametrize(
    ("steps", "sparsity", "message"),
    [
        (lambda: [*normalized(), Dense(2)], 0.5, "% in fc: it feeds ln"),
        (
            lambda: [
                Inputs((9, 8)), Dense(4), Dense(9, "relu"),
                layers.RNN(layers.GRUCell(30), name="gru"), Dense(2),
            ],
            0.5,
            "% in gru: it has weights of its own",
        ),
        (
            lambda: [Inputs((9,)), Dense(9, name="fc"), Unknown(name="own"), Dense(4), Dense(2)],
            0.5,
            "% in fc: it feeds own .*register_rule",
        ),
        (pooled_filters, None, "% in conv2, conv1: .* for Dense layers only; give `sparsity`"),
        (
            lambda: [Inputs((4,), dtype="int32"), layers.Embedding(50, 30, name="table"),
                     layers.Flatten(), Dense(10, "relu"), Dense(2)],
            None,
            "% in table: .* for Dense layers only; give `sparsity`",
        ),
    ],
)  # fmt: skip
def test_one_warning_where_most_of_a_model_stays_whole(steps, sparsity, message):
    model = keras.Sequential(steps())
    with pytest.warns(UserWarning, match=f"Most of model '{model.name}'.*{message}") as seen:
        dfprune.apply(model, sparsity=sparsity, method="saliency")
    assert len(seen) == 1 and seen[0].filename == __file__


@pytest.mark.parametrize(
    ("steps", "arguments"),
    [
        (pooled_filters, {"sparsity": 0.5}),
        (lambda: [Inputs((8,)), Dense(4, "relu"), Dense(900)], {"sparsity": 0.5}),
        (lambda: [Inputs((8,)), Dense(4), Dense(900), layers.Softmax()], {"sparsity": 0.5}),
        # The kernel of the recurrent layer shrinks with the units in front of it.
        (lambda: [Inputs((9, 4)), Dense(80), layers.GRU(8), Dense(2)], {"sparsity": 0.5}),
        # The caller knows what stays.
        (lambda: [*normalized(), Dense(2)], {"sparsity": {"dense": 0.5}}),
        (lambda: [*normalized(), Dense(2)], {"sparsity": 0.5, "layers": ["dense"]}),
        (lambda: [*normalized(), Dense(2)], {"layers": []}),
        (lambda: [*normalized(), Dense(2)], {"max_params": 500}),
        (lambda: [*normalized(), Dense(2)], {"tolerance": 0}),
    ],
)
def test_no_warning_where_enough_is_pruned_or_the_caller_chose(steps, arguments, recwarn):
    keras.backend.clear_session()  # the names of the layers begin anew
    dfprune.plan(keras.Sequential(steps()), **arguments)
    assert not [warning for warning in recwarn if "stays whole" in str(warning.message)]


def test_a_warning_names_the_largest_layers_only():
    steps = [Dense(8, "softmax", name=f"mixed{number}") for number in range(5)]
    model = keras.Sequential([Inputs((8,)), *steps, Dense(8, "relu"), Dense(2)])
    with pytest.warns(UserWarning, match="Most of model") as seen:
        plan = dfprune.plan(model, sparsity=0.5)
    text, sentences = str(seen[0].message), str(plan).split("Left whole\n")[1].splitlines()
    assert "% in mixed0, mixed1, mixed2 and 2 more: " in text
    assert [line for line in sentences if line.startswith("  mixed0, mixed1, mixed2, mixed3, mi")]
