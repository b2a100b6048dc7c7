"""Two processes that write one path: each finishes, and what is there is always one of theirs."""

import pathlib
import subprocess
import sys
import time

import pytest

import keras_dfprune

WRITE = """
import pathlib, sys
from keras_dfprune.report.staging import move_into_place, staging
target, letter, folders = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "folder"
for _ in range(60):
    with staging(target) as folder:
        staged = folder / target.name
        if folders:
            staged.mkdir()
            for name in "abc":
                (staged / name).write_text(letter * 50_000)
        else:
            staged.write_text(letter * 100_000)
        move_into_place(staged, target)
"""
CHECKOUT = pathlib.Path(keras_dfprune.__file__).parents[1]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_there_is_whole(kind, tmp_path):
    target = tmp_path / "target"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, str(target), letter, kind],
            cwd=CHECKOUT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for letter in "xyz"
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if target.is_file():
            text = target.read_text()
            assert text in [letter * 100_000 for letter in "xyz"]
            seen.add(text[0])
        time.sleep(0.002)
    assert [(writer.returncode, writer.stderr.read()) for writer in writers] == [(0, "")] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    if kind == "folder":
        texts = {path.read_text() for path in target.iterdir()}
        assert len(texts) == 1 and len(texts.pop()) == 50_000
    else:
        assert seen
