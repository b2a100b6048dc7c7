"""Checkpoints of a recovery: going on after an interruption, and files of other runs."""

import keras
import numpy as np
import pytest

from keras_dfprune.refine.recover import recover
from keras_dfprune.report.progress import Progress
from tests.support.models import dense_chain


class Interrupting(Progress):
    """Progress that ends the run when a step is reported."""

    def __init__(self, stop):
        super().__init__()
        self.stop = stop

    def bar(self, stage, total, unit):
        bar = super().bar(stage, total, unit)

        def update(done, difference=None):
            if done >= self.stop:
                raise KeyboardInterrupt

        bar.update = update
        return bar


def rows(count, seed):
    return {"x": np.random.default_rng(seed).normal(size=(count, 6)).astype("float32")}


def run(path=None, steps=60, wide_seed=1, narrow_seed=2, data_seed=0, **arguments):
    narrow, wide = dense_chain([5, 3], seed=narrow_seed), dense_chain([20, 3], seed=wide_seed)
    data, held_out = rows(50, data_seed), rows(20, data_seed + 9)
    arguments = {"batch_size": 16, "mixtures": True, **arguments}
    reached = recover(narrow, wide, data, held_out, steps=steps, checkpoint=path, **arguments)
    return reached, narrow.get_weights()


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path):
    path = tmp_path / "run.npz"
    expected, weights = run()
    for stop in (15, 40):
        with pytest.raises(KeyboardInterrupt):
            run(path, progress=Interrupting(stop))
        assert [file.name for file in tmp_path.iterdir()] == ["run.npz"]
    assert np.load(path, allow_pickle=False)["header"]
    reached, resumed = run(path)
    assert reached == expected
    for one, two in zip(resumed, weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_finished_run_ends_at_once_with_the_same_weights(tmp_path):
    expected, weights = run(tmp_path / "run")
    changed = (tmp_path / "run").stat().st_mtime_ns
    reached, again = run(tmp_path / "run")
    assert reached == expected
    for one, two in zip(again, weights, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (tmp_path / "run").stat().st_mtime_ns == changed


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"steps": 70}, "steps: 60 in the file, 70 now"),
        ({"seed": 5}, "seed: 0 in the file, 5 now"),
        ({"mixtures": False}, "mixtures: True in the file, False now"),
        ({"batch_size": 8}, "batch size: 16 in the file, 8 now"),
        ({"wide_seed": 5}, "another wide model or other rows"),
        ({"data_seed": 5}, "another wide model or other rows"),
        ({"narrow_seed": 5}, "other weights of the narrow model at the start"),
    ],
)
def test_a_checkpoint_of_another_run_is_an_error(tmp_path, other, message):
    run(tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", **other)


def test_a_damaged_file_and_a_missing_folder_are_errors(tmp_path):
    (tmp_path / "run").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="no checkpoint that this version can read"):
        run(tmp_path / "run")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(ValueError, match="no checkpoint that this version can read"):
        run(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="Make the folder first"):
        run(tmp_path / "missing" / "run")


def test_bfloat16_weights_go_on(tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    try:
        expected, weights = run(tmp_path / "run", steps=20)
        reached, again = run(tmp_path / "run", steps=20)
    finally:
        keras.config.set_dtype_policy("float32")
    assert reached == expected
    for one, two in zip(again, weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one, "float32"), np.asarray(two, "float32"))
