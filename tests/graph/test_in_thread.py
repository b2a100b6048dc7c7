"""Functions run in a thread: their results and errors, and the end of the main thread."""

import subprocess
import sys

import pytest

from keras_dfprune.graph.in_thread import run_in_thread


def test_result_and_error():
    assert run_in_thread(int, "11", base=2).result() == 3
    with pytest.raises(ValueError, match="invalid literal"):
        run_in_thread(int, "x").result()


def test_main_thread_may_have_ended():
    """A training in another thread may outlive it."""
    code = """
import threading
from keras_dfprune.graph.in_thread import run_in_thread

def late():
    threading.main_thread().join()
    print(run_in_thread(int, "7").result())

threading.Thread(target=late).start()
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout == "7\n", finished.stderr
