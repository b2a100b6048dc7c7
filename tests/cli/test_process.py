"""The command in a process of its own: its imports, its output and its exit codes."""

import os
import pathlib
import subprocess
import sys

import keras
import pytest

import keras_dfprune

CHECKOUT = pathlib.Path(keras_dfprune.__file__).parents[1]
COMMAND = (sys.executable, "-m", "keras_dfprune")


def run(*arguments, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.run(arguments, cwd=CHECKOUT, **options)


@pytest.mark.parametrize("command", [(), ("inspect",), ("prune",), ("demo",)])
def test_help_and_version_import_neither_tensorflow_nor_keras(command):
    program = (
        "import sys; from keras_dfprune.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    for flag in ["--help", "--version"][: 1 if command else 2]:
        done = run(sys.executable, "-c", program, *command, flag)
        assert done.returncode == 0 and done.stdout.endswith("\nset()\n")
        assert done.stderr == ""


def test_the_command_runs_from_a_checkout_that_is_not_installed():
    done = run(sys.executable, "-S", *COMMAND[1:], "--version")  # -S: no installed packages
    assert done.stdout == f"keras-dfprune {keras_dfprune.__version__}\n"
    done = run(sys.executable, "-S", *COMMAND[1:], "inspect", "model.keras")
    assert done.returncode == 2
    assert done.stderr == "keras-dfprune: error: No module named 'keras'\n"


def test_an_error_is_all_that_is_shown(tmp_path):
    (tmp_path / "text.h5").write_text("not a model")
    done = run(*COMMAND, "inspect", str(tmp_path / "text.h5"))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("keras-dfprune: error: can't read a Keras model")
    assert done.stderr.count("\n") == 1


def test_a_closed_pipe_ends_the_command_quietly(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6), keras.layers.Dense(2)])
    kernel, bias = model.layers[0].get_weights()
    kernel[:, 3:] = kernel[:, :3]  # half of the units can go, and nothing is warned of
    model.layers[0].set_weights([kernel, bias])
    model.save(tmp_path / "model.keras")
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ("inspect", str(tmp_path / "model.keras"), "--sparsity", "0.5")
    done = run(*COMMAND, *arguments, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_ctrl_c_during_the_import_of_keras_is_one_line(tmp_path):
    lines = "import os, signal, time", "os.kill(os.getpid(), signal.SIGINT)", "time.sleep(60)"
    (tmp_path / "keras.py").write_text("\n".join(lines))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = run(*COMMAND, "inspect", "model.keras", env=environment)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "keras-dfprune: interrupted\n"
