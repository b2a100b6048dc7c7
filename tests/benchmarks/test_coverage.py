"""The table of layers in the docs agrees with the rules."""

import keras
import pytest

from benchmarks import coverage


def test_the_committed_table_is_current():
    text = coverage.FILE.read_text(encoding="utf-8")
    if f"with Keras {keras.__version__}." not in text:
        pytest.skip(f"made with another version of Keras than {keras.__version__}")
    assert coverage.main(["--check"]) == 0, "run `python -m benchmarks.coverage`"


@pytest.mark.parametrize("name, role", [
    ("Dense", "producer, consumer"), ("Embedding", "producer"), ("LSTM", "producer, consumer"),
    ("Dropout", "carrier"), ("Add", "carrier"), ("Softmax", "barrier"),
    ("MultiHeadAttention", "heads, consumer"),
])  # fmt: skip
def test_roles(name, role):
    assert coverage.role_and_reason(getattr(keras.layers, name))[0] == role


def test_every_layer_of_keras_is_listed_once():
    text = coverage.render()
    for kind in coverage.layer_names():
        assert text.count(f"\n| `{kind.__name__}`") == 1
