"""Everything in the package that writes a file, with what reads it back."""

import contextlib
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_dfprune as dfprune
from keras_dfprune.exporting.litert_interpreter import LiteRTProgram
from keras_dfprune.refine.checkpoint import Checkpoint, Seen
from tests.support.models import dense_chain

X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")


@dataclasses.dataclass(frozen=True)
class Writer:
    """File or folder that the package writes.

    Attributes:
        name: Its name.
        write: Writes it: once for False, and with another content for True.
        read: Returns what it holds, as something that can be compared.
        grows: Whether it is written again and again while the work goes on.
    """

    name: str
    write: Callable[[pathlib.Path, bool], None]
    read: Callable[[pathlib.Path], Any]
    grows: bool = False

    def __str__(self) -> str:
        return self.name


@functools.cache
def model_of(second: bool) -> keras.Model:
    model = dense_chain([10, 3] if second else [8, 3])
    model.compile("sgd", "mse")
    return model


@functools.cache
def plan_of(second: bool) -> dfprune.PruningPlan:
    return dfprune.plan(model_of(second), sparsity=0.5)


def _export(path: pathlib.Path, second: bool) -> None:
    dfprune.export(model_of(second), path)


def _read_saved_model(path: pathlib.Path) -> list:
    loaded = tf.saved_model.load(path)
    return loaded.signatures["serving_default"](tf.constant(X))["output_0"].numpy().tolist()


def _read_litert(path: pathlib.Path) -> list:
    program = LiteRTProgram(path)
    (spec,) = program.inputs
    return [value.tolist() for value in program.run({spec.name: X}).values()]


def search(path: pathlib.Path, second: bool) -> dfprune.SearchResult:
    """Search with a checkpoint; the second time it goes on."""
    return dfprune.search(
        model_of(False),
        lambda model: 1.0,
        max_drop=0.0,
        steps=2 if second else 1,
        checkpoint=path,
        method="saliency",
    )


def prune_and_train(path: pathlib.Path, second: bool) -> keras.Model | None:
    """Prune in two rounds; the first time it is interrupted in the second round."""
    rounds = []

    def train(model):
        rounds.append(model)
        if not second and len(rounds) == 2:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        return dfprune.prune_and_train(
            model_of(False), train, steps=2, final=0.6, checkpoint=path, method="saliency"
        )


def _refine(path: pathlib.Path, second: bool) -> None:
    state = [tf.Variable(np.full((4, 5), 2.0 if second else 1.0, np.float32))]
    Checkpoint(path, {"a": 1}).save({"b": 1.0}, state, Seen(3, 0.5, 2, [state[0] + 1]))


def _read_refine(path: pathlib.Path) -> Any:
    state = [tf.Variable(np.zeros((4, 5), np.float32))]
    seen = Checkpoint(path, {"a": 1}).load({"b": 1.0}, state, Seen(0, 1.0, 0, [state[0]]))
    best = [value.numpy().tolist() for value in seen.best_values]
    return seen.step, seen.best, seen.best_step, best, state[0].numpy().tolist()


def _read_rounds(folder: pathlib.Path) -> Any:
    content = json.loads((folder / "rounds.json").read_text())["content"]
    model = keras.saving.load_model(folder / f"round{content['done']}.keras")
    return content, [weight.tolist() for weight in model.get_weights()]


def _read_plan(path: pathlib.Path) -> Any:
    loaded = dfprune.PruningPlan.load(path)
    merges = [vars(group.merge) for group in loaded.groups]
    return str(loaded), json.dumps(merges, default=np.ndarray.tolist)


def everything_in(folder: pathlib.Path) -> dict[str, bytes]:
    """Return the bytes of each file below a folder, by its path there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


WRITERS = [
    Writer(
        "export.keras",
        _export,
        lambda path: [w.tolist() for w in keras.saving.load_model(path).get_weights()],
    ),
    Writer("export.tflite", _export, _read_litert),
    Writer("export", _export, _read_saved_model),
    Writer("plan.npz", lambda path, second: plan_of(second).save(path), _read_plan),
    Writer(
        "report.html",
        lambda path, second: plan_of(second).report(path),
        lambda path: path.read_text(encoding="utf-8"),
    ),
    Writer(
        "plot.png",
        lambda path, second: plan_of(second).plot(path),
        lambda path: path.read_bytes(),
    ),
    Writer("search.json", search, lambda path: json.loads(path.read_text())["content"], True),
    Writer("refine.npz", _refine, _read_refine),
    Writer("rounds", prune_and_train, _read_rounds, True),
]
# What is one file or folder, replaced as a whole. A folder of rounds holds several.
ONE_FILE = WRITERS[:-1]
