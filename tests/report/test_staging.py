"""Files are written whole or not at all, and what killed processes left is cleared."""

import os
import subprocess
import sys

import pytest

from keras_dfprune.report.staging import written

KILLED = """
import os, signal, sys
from keras_dfprune.report.staging import written
with written(sys.argv[1]) as staged:
    staged.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_process_leaves_the_old_file_and_the_next_one_clears_up(tmp_path):
    target = tmp_path / "a plan 'ü'.npz"
    target.write_text("old")
    assert subprocess.run([sys.executable, "-c", KILLED, target], check=False).returncode == -9
    assert target.read_text() == "old" and len(names(tmp_path)) == 2
    with written(target) as staged:
        staged.write_text("new")
    assert target.read_text() == "new" and names(tmp_path) == [target.name]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "plan.npz"
    target.write_text("old")
    with pytest.raises(OSError, match="full"), written(target) as staged:
        staged.write_text("half")
        raise OSError("disk is full")
    assert target.read_text() == "old" and names(tmp_path) == ["plan.npz"]


def test_two_writers_of_one_file_each_finish_theirs(tmp_path):
    target = tmp_path / "plan.npz"
    with written(target) as first, written(target) as second:
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first"  # The inner one was moved before it.


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "plan.npz").symlink_to(tmp_path / "real.npz")
    with written(tmp_path / "plan.npz") as staged:
        staged.write_text("new")
    assert os.path.islink(tmp_path / "plan.npz")
    assert (tmp_path / "real.npz").read_text() == "new"
