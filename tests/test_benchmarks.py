"""The benchmarks' networks: built as they are named, trained once, read from disk afterwards."""

import numpy as np
import pytest

from benchmarks import nets


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("lenet5", 431_080), ("lenet300", 266_610), ("gelu", 266_610), ("digits", 85_002)],
)
def test_parameters(name, parameters):
    assert nets.NETS[name].build().count_params() == parameters


def test_trained_once(tmp_path):
    pytest.importorskip("sklearn")
    model = nets.trained("digits", "digits", 0, tmp_path, quick=True)
    again = nets.trained("digits", "digits", 0, tmp_path, quick=True)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [file.name for file in tmp_path.iterdir()] == ["digits-digits-0-quick.keras"]
    _, test = nets.load_data("digits")
    assert nets.accuracy(again, test) > 50.0


def test_data_is_never_downloaded(tmp_path):
    with pytest.raises(FileNotFoundError, match="TFDS_DATA_DIR"):
        nets.load_data("mnist", str(tmp_path))


def test_unknown_networks(tmp_path):
    with pytest.raises(ValueError, match="dataset='mnist'"):
        nets.trained("digits", "mnist", 0, tmp_path)
