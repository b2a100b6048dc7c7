"""Damaged files: an error or the right answer. `corrupt_files.py` runs more seeds."""

import pytest

from tests.faults import corrupt_files
from tests.faults.corrupt_files import Reader

SEEDS = 30


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Reader(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("name", corrupt_files.NAMES)
def test_damage_is_an_error_or_harmless(name, reader):
    seeds = SEEDS if name != "model.h5" else SEEDS // 4  # Each takes a process.
    outcomes = [reader.outcome(name, seed) for seed in range(seeds)]
    assert set(outcomes) <= {"right", "error", "another answer"}
    assert outcomes.count("error") > seeds / 3


def test_all_kinds_are_read(reader):
    assert list(reader.kinds) == corrupt_files.NAMES
