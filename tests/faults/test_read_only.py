"""Writers in a folder that may not be changed: an error, and the old file as it was."""

import contextlib
import ctypes
import os

import pytest

from keras_dfprune.exporting.result import ExportError
from tests.support.writers import WRITERS, everything_in

DAC_OVERRIDE = 1 << 1  # the capability by which root writes into any folder
VERSION = 0x20080522


@contextlib.contextmanager
def without_override():
    """Give up root's right to write anywhere, in this thread, for a while."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    effective = data[0]
    data[0] &= ~DAC_OVERRIDE
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        data[0] = effective
        assert libc.capset(header, data) == 0


@pytest.mark.parametrize("writer", WRITERS, ids=str)
def test_the_old_file_stays(writer, tmp_path):
    path = tmp_path / writer.name
    writer.write(path, False)
    before, folder = everything_in(tmp_path), path if path.name == "rounds" else tmp_path
    os.chmod(folder, 0o555)
    try:
        with without_override(), pytest.raises((OSError, ExportError), match="denied|read-only"):
            writer.write(path, True)
    finally:
        os.chmod(folder, 0o755)
    assert everything_in(tmp_path) == before
