"""Kill a process at any step: the old file or the new one is left, and the next one clears up.

A killed process leaves on the disk what is there at that moment. So the folder is copied before
each step that changes it, and each copy is looked at as if the process had ended there.
"""

import contextlib
import shutil
import sys

import pytest

from keras_dfprune.report import staging as staging_module
from keras_dfprune.report.staging import staging
from tests.support.writers import WRITERS, everything_in

STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod"}
recorder = None  # An audit hook can't be taken away again.


def hook(event, arguments):
    if recorder is not None and event in STEPS:
        recorder()


sys.addaudithook(hook)


@contextlib.contextmanager
def copies_of(folder, copies):
    """Copy a folder to numbered ones in `copies` before each step in which it has changed."""
    global recorder
    seen = set()

    def record():
        global recorder
        recorder = None
        try:
            files = [path for path in folder.rglob("*")]
            state = tuple((str(path), path.lstat().st_size) for path in files if path.exists())
            if state not in seen:
                shutil.copytree(folder, copies / str(len(seen)))
                seen.add(state)
        finally:
            recorder = record

    recorder = record
    try:
        yield
    finally:
        recorder = None


def test_an_old_folder_that_was_moved_away_comes_back(tmp_path, monkeypatch):
    """Bring the old folder back where the system can't exchange folders."""
    monkeypatch.setattr(staging_module, "exchange", lambda one, other: False)
    (writer,) = (writer for writer in WRITERS if writer.name == "export")
    test_each_step_leaves_the_old_file_or_the_new_one(writer, tmp_path)


@pytest.mark.parametrize("writer", WRITERS, ids=str)
def test_each_step_leaves_the_old_file_or_the_new_one(writer, tmp_path):
    folder, copies = tmp_path / "folder", tmp_path / "copies"
    folder.mkdir()
    copies.mkdir()
    path = folder / writer.name
    with copies_of(folder, copies):
        writer.write(path, False)
    check(writer, copies, [{}, everything_in(folder)])
    shutil.rmtree(copies)
    copies.mkdir()
    before = everything_in(folder)
    with copies_of(folder, copies):
        writer.write(path, True)
    check(writer, copies, [before, everything_in(folder)])


def check(writer, copies, allowed):
    """Check that the next run finds one of the allowed contents, and nothing else."""
    unfinished = 0
    for copy in copies.iterdir():
        unfinished += any(path.name.endswith(".unfinished") for path in copy.rglob("*"))
        path = copy / writer.name
        for target in [path / "rounds.json", path / "round1.keras", path / "round2.keras", path]:
            if target.parent.is_dir():
                with staging(target):
                    pass
        assert not any(path.name.startswith(".") for path in copy.rglob("*"))
        if not writer.grows:
            assert everything_in(copy) in allowed
        elif (path / "rounds.json" if path.is_dir() else path).exists():
            writer.read(path)
    assert unfinished
    if writer.grows:  # The last copy goes on.
        writer.write(path, True)
        assert everything_in(copy).keys() == allowed[-1].keys() or writer.name == "rounds"
