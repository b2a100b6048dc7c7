"""The sentence that says what went wrong, out of the errors around it."""

import keras
import pytest

from keras_dfprune.report.cause import cause


def raised(*messages, kind=ValueError):
    """Return an error whose context is an error with the message before, and so on."""
    try:
        if messages[:-1]:
            raise raised(*messages[:-1], kind=kind)
        raise kind(messages[-1])
    except kind as error:
        if messages[:-1]:
            try:
                raise ValueError(messages[-1])
            except ValueError as outer:
                return outer
        return error


def test_an_error_that_quotes_another_gives_way_to_it():
    inner = "the cause is here"
    assert cause(raised(inner, f"config={{...}} Exception encountered: {inner}")) == inner
    assert cause(raised(inner, f"a {inner}", f"config={{...}}\n\na {inner}")) == inner


def test_an_error_that_says_something_else_stands():
    assert cause(raised("not found", "Pass another name")) == "Pass another name"
    assert cause(raised("x", "the key 'x' is unknown", kind=KeyError)) == "the key 'x' is unknown"


def test_the_text_is_a_sentence_on_one_line():
    assert cause(KeyError("There is no item")) == "There is no item"
    assert cause(KeyError("units")) == "KeyError: units"
    assert cause(ValueError()) == "ValueError"
    assert cause(ValueError("two\n  lines")) == "two lines"


def test_the_config_of_a_layer_is_left_out():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="fc")])
    config = model.get_config()
    config["layers"][1]["config"]["activation"] = "nosuch"
    with pytest.raises(TypeError) as seen:
        keras.saving.deserialize_keras_object(
            {"module": "keras", "class_name": "Sequential", "config": config}
        )
    assert len(str(seen.value)) > 1000
    assert cause(seen.value).startswith("Could not interpret activation function identifier")
