"""Every public name is in the reference, with its arguments and an example that can be run."""

import dataclasses
import inspect
import pathlib
import re

import pytest

import keras_dfprune

API = pathlib.Path(keras_dfprune.__file__).parents[1] / "docs" / "api"
# What users call. Results, views of a group and errors are documented by their attributes.
CALLED = [
    name
    for name in keras_dfprune.__all__
    if not dataclasses.is_dataclass(value := getattr(keras_dfprune, name))
    and not (inspect.isclass(value) and issubclass(value, Exception))
]


def test_every_public_name_is_in_the_reference_once():
    text = "\n".join(path.read_text(encoding="utf-8") for path in API.glob("*.md"))
    shown = re.findall(r"^::: keras_dfprune\.(\w+)$", text, re.MULTILINE)
    assert sorted(shown) == sorted(keras_dfprune.__all__)
    rules = re.findall(r"^::: keras_dfprune\.rules\.(\w+)$", text, re.MULTILINE)
    assert {*rules, "register_rule", "unregister_rule"} == set(keras_dfprune.rules.__all__)


def test_the_first_page_of_the_reference_lists_every_public_name():
    listed = re.findall(r"\[keras_dfprune\.(\w+)\]", (API / "index.md").read_text("utf-8"))
    assert sorted(listed) == sorted(keras_dfprune.__all__)


@pytest.mark.parametrize("name", CALLED)
def test_what_users_call_has_its_arguments_and_an_example_in_the_docstring(name):
    value = getattr(keras_dfprune, name)
    text = inspect.getdoc(value)
    passed_on = "    **arguments: The arguments of `apply`" in text
    # Method has no arguments of its own: its example shows what a subclass writes.
    known = passed_on or inspect.isabstract(value)
    arguments = () if known else inspect.signature(value).parameters.values()
    for argument in arguments:
        stars = {"VAR_KEYWORD": r"\*\*", "VAR_POSITIONAL": r"\*"}.get(argument.kind.name, "")
        assert re.search(rf"^    {stars}{argument.name}: ", text, re.MULTILINE), argument.name
    assert "\nExamples:\n" in text and ">>> " in text


@pytest.mark.parametrize("name", sorted(set(keras_dfprune.__all__) - set(CALLED)))
def test_attributes_of_results_are_documented(name):
    value = getattr(keras_dfprune, name)
    own = vars(value).get("__annotations__", {})
    told = inspect.getdoc(value)
    for attribute in own if dataclasses.is_dataclass(value) else ():
        assert re.search(rf"^    {attribute}: ", told, re.MULTILINE), attribute
