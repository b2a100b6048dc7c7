"""Structure of the package: which way imports run, and which file touches private attributes."""

import ast
import configparser
import pathlib
import subprocess
import sys

import pytest

import keras_dfprune

PACKAGE = pathlib.Path(keras_dfprune.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up: a folder imports from lower floors only, and not from others on its own.
FLOORS = [
    {"report"},
    {"graph"},
    {"rules"},
    {"locate", "methods"},
    {"inputs"},
    {"surgery"},
    {"rebuild", "verify", "refine", "exporting"},
    {"planning", "measure"},
    {"api"},
    {"cli"},
]
LONGEST = 300  # lines


def folders_imported_by(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name.name}" for name in node.names]
        else:
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        parts = [name.split(".") for name in names]
        yield from (part[1] for part in parts if part[0] == "keras_dfprune" and len(part) > 1)


def test_imports_run_one_way():
    floor_of = {folder: floor for floor, folders in enumerate(FLOORS) for folder in folders}
    assert set(floor_of) == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    for file in FILES:
        folder = file.relative_to(PACKAGE).parts[0]
        for imported in set(folders_imported_by(file)) & set(floor_of) - {folder}:
            assert floor_of[imported] < floor_of.get(folder, len(FLOORS)), (file, imported)


def test_exporting_knows_nothing_of_pruning():
    used = {
        name for file in (PACKAGE / "exporting").glob("*.py") for name in folders_imported_by(file)
    }
    assert used == {"exporting", "graph", "inputs", "report"}


@pytest.mark.parametrize("folder", ["methods", "rules"])
def test_methods_and_rules_do_not_know_how_keras_is_made(folder):
    for file in (PACKAGE / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("keras_dfprune.graph"):
                assert folder == "rules"
                assert {name.name for name in node.names} <= {
                    "Call", "Tensor", "all_layers", "is_preprocessing", "is_stock",
                    "read_config", "PART_TYPES",
                }  # fmt: skip


def test_no_file_is_long():
    for file in FILES:
        assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST, file


QUESTIONS = ("What", "Whether", "How", "The", "A", "An", "Why", "Where", "Which", "That")


def test_docstrings_say_what_a_thing_does():
    """ruff's D401 wants a verb of functions; this is for modules, classes and properties too."""
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                first, *_ = (ast.get_docstring(node) or "None").split()
                assert first not in QUESTIONS, (file, node)


def test_every_package_is_installed():
    setup = configparser.ConfigParser()
    setup.read(PACKAGE.parent / "setup.cfg")
    folders = [file.parent.relative_to(PACKAGE.parent) for file in FILES if file.stem == "__init__"]
    expected = {".".join(folder.parts) for folder in folders}
    assert set(setup["options"]["packages"].split()) == expected


def test_public_names_survive_the_import_of_every_module():
    """Python binds a submodule onto its package: none may take the place of a public name."""
    modules = [".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in FILES]
    modules = [name for name in modules if not name.endswith(("__main__", "__init__"))]
    code = (
        "import importlib, keras_dfprune\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "for name in keras_dfprune.__all__: assert callable(getattr(keras_dfprune, name)), name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)


def is_private(name):
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__")


def private_reads(tree):
    """Underscore attributes of other objects, also through `vars(x)[...]`, `getattr`, keywords."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.attr
        elif isinstance(node, ast.keyword) and is_private(node.arg):
            yield node.arg
        elif isinstance(node, (ast.Subscript, ast.Call)):
            inside = [node.slice] if isinstance(node, ast.Subscript) else node.args
            for part in inside:
                value = part.value if isinstance(part, ast.Constant) else None
                if not (is_private(value) and value.isidentifier()):
                    continue
                if isinstance(node, ast.Subscript) or ast.unparse(node.func).endswith(
                    ("getattr", ".get")
                ):
                    yield value


def test_the_finder_sees_private_reads():
    text = 'a._b\nself._own\nvars(x)["_c"]\nvars(x).get("_d")\ngetattr(x, "_e", 1)\nx.__dict__'
    text += "\nupdate(_f=1)"
    assert sorted(private_reads(ast.parse(text))) == ["_b", "_c", "_d", "_e", "_f"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_one_file_touches_private_attributes(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set(private_reads(tree))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import)
                for name in node.names}  # fmt: skip
    internal = {name for name in modules if name.startswith(("keras.src", "tensorflow.python"))}
    if file == PACKAGE / "graph" / "keras_private.py":
        assert internal == {"keras.src.models.functional"}
        assert found == {
            "_nodes_by_depth", "_trainable_variables", "_functional", "_keras_history",
            "_inputs_struct", "_outputs_struct", "_compile_config", "_layers", "_flatten_layers",
            "_tracker", "_use_weight_decay", "_inbound_nodes", "_outbound_nodes", "_keras_mask",
            "_call_signature", "_direction", "_maybe_build",
        }  # fmt: skip
    else:
        assert found == set() and internal == set()
