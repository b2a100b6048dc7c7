"""Writers on a full disk: an error, the old file as it was, and nothing left behind."""

import contextlib
import resource
import tempfile

import pytest

from keras_dfprune.exporting.result import ExportError
from tests.support.writers import WRITERS, everything_in


@contextlib.contextmanager
def files_of_at_most(size):
    """Let the system refuse to make any file longer, in native code too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def left_in(folder):
    """Return what is in a folder, without the sources that AutoGraph removes when Python ends."""
    found = everything_in(folder).items()
    return {name: content for name, content in found if not name.startswith("__autograph")}


@pytest.mark.parametrize("writer", WRITERS, ids=str)
def test_the_old_file_stays_and_nothing_is_left(writer, tmp_path, monkeypatch):
    folder, temporary = tmp_path / "folder", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    path = folder / writer.name
    writer.write(path, False)
    before, value = everything_in(folder), writer.read(path)
    for size in (0, max(map(len, before.values())) // 3):
        with files_of_at_most(size), pytest.raises((OSError, ExportError)):
            writer.write(path, True)
        assert everything_in(folder) == before and left_in(temporary) == {}
    assert writer.read(path) == value
