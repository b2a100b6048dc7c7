"""The public names: loaded on first use, and seen by type checkers and `dir` before that."""

import ast
import pathlib
import subprocess
import sys

import keras
import pytest

import keras_dfprune

FILE = pathlib.Path(keras_dfprune.__file__)


def in_a_new_process(code):
    """Run code with the package importable, and return what it prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=FILE.parents[1], capture_output=True, text=True, check=True)
    return done.stdout


def assigned(tree, name):
    """Return the node that a module assigns to a name."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return node.value
    raise AssertionError(name)


def test_the_import_loads_neither_tensorflow_nor_keras():
    code = "import sys, keras_dfprune; print({'keras', 'tensorflow', 'numpy'} & set(sys.modules))"
    assert in_a_new_process(code) == "set()\n"


def test_dir_lists_names_that_are_not_loaded_yet():
    code = "import keras_dfprune; print(*dir(keras_dfprune))"
    assert {*keras_dfprune.__all__, "rules", "__version__"} <= set(in_a_new_process(code).split())


def test_type_checkers_see_the_same_names_in_the_same_modules():
    tree = ast.parse(FILE.read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {}
    for node in block.body:
        (name,) = node.names
        assert name.name == name.asname  # the form that re-exports a name
        seen[name.name] = node.module
    modules = ast.literal_eval(assigned(tree, "_MODULES"))
    expected = {name: f"keras_dfprune.{module}" for name, module in modules.items()}
    assert seen == {**expected, "rules": "keras_dfprune"}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'keras_dfprune' has no attribute 'prune'"):
        _ = keras_dfprune.prune


def test_another_backend_is_an_error_at_the_first_use_of_a_name(monkeypatch):
    monkeypatch.delitem(vars(keras_dfprune), "apply", raising=False)  # as in a new process
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ImportError, match="KERAS_BACKEND=tensorflow.*'jax'") as error:
        _ = keras_dfprune.apply
    assert "\n" not in str(error.value)
