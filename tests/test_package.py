"""Check one version, extras that exist, and the files of the source archive."""

import ast
import configparser
import pathlib
import re

import keras_dfprune

ROOT = pathlib.Path(keras_dfprune.__file__).parents[1]


def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_the_version_stands_in_one_file():
    assert setup()["metadata"]["version"] == "attr: keras_dfprune.__version__"
    assert "version:" not in (ROOT / "CITATION.cff").read_text("utf-8").replace("cff-version:", "")
    assert f"## {keras_dfprune.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_extras_named_in_messages_and_docs_exist():
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.py")]
    files += ROOT.glob("keras_dfprune/**/*.py")
    named = set()
    for file in files:
        text = file.read_text(encoding="utf-8")
        for extras in re.findall(r'pip install (?:-e )?"(?:keras_dfprune|\.)\[([^]]+)\]"', text):
            named.update(extras.split(","))
    assert {"plots", "report", "onnx", "demo"} <= named
    assert named <= set(setup()["options.extras_require"])


def requirements(*extras):
    """Return the requirements of the package and of some extras, without references to others."""
    parts = (
        setup()["options"]["install_requires"],
        *map(setup()["options.extras_require"].get, extras),
    )
    lines = [line for part in parts for line in part.split()]
    return dict(re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in lines)


def test_the_lowest_versions_are_those_that_are_tested():
    lines = (ROOT / ".ci" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert requirements("test", "onnx") == {name: f">={least}" for name, least in tested.items()}


def test_no_requirement_is_without_a_bound():
    for name, bound in requirements(*setup()["options.extras_require"]).items():
        assert bound.startswith(">="), name


def test_every_caught_or_raised_import_error_names_an_extra():
    for file in (ROOT / "keras_dfprune").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            raised = getattr(node, "exc", None) if isinstance(node, ast.Raise) else None
            if isinstance(raised, ast.Call) and ast.unparse(raised.func) == "ImportError":
                text = ast.unparse(raised)
                assert "pip install" in text or "KERAS_BACKEND" in text, file


def test_each_python_version_has_a_classifier():
    listed = setup()["metadata"]["classifiers"]
    least = setup()["options"]["python_requires"].removeprefix(">=")
    minors = [int(minor) for minor in re.findall(r":: 3\.(\d+)", listed)]
    assert f"3.{min(minors)}" == least and minors == list(range(min(minors), max(minors) + 1))


def test_the_source_archive_has_every_folder():
    lines = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").split()
    for folder in ("docs", "examples", "tests", "benchmarks", ".ci", ".github"):
        assert folder in lines and (ROOT / folder).is_dir()
