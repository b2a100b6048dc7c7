"""Prune a little, train, and repeat: smaller than one cut allows."""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras

from keras_dfprune.api.apply import plan_and_apply
from keras_dfprune.api.open_model import locate_in_any
from keras_dfprune.api.search import check_no_budget
from keras_dfprune.api.trial_file import check_same, settings_of
from keras_dfprune.inputs.model_inputs import adapt_samples
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.planning.chosen_groups import choose_groups
from keras_dfprune.planning.gather_rows import with_data_read
from keras_dfprune.planning.read_arguments import is_number
from keras_dfprune.planning.request import Request, read_request
from keras_dfprune.planning.width_count import count_parameters
from keras_dfprune.report.archive import check_archive
from keras_dfprune.report.cause import cause
from keras_dfprune.report.sealed_json import read_sealed, write_sealed
from keras_dfprune.report.staging import written

_FORMAT = 3


def prune_and_train(
    model: keras.Model,
    train: Callable[[keras.Model], Any],
    *,
    steps: int = 3,
    final: float,
    evaluate: Callable[[keras.Model], float] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    verbose: int = 0,
    **arguments: Any,
) -> keras.Model:
    """Prune in several rounds, and train the narrow model after each.

    Each round keeps the same fraction of what the round before left, so that the last one keeps
    `final` of the parameters. The optimizer's slots are cut with the model and go on.

    Args:
        model: A built and compiled Keras model. It is not changed.
        train: Function that trains the model that it is given, in place. What it returns is
            ignored, unless it is a model: that one goes on.
        steps: Number of rounds, at least 1. Default: 3.
        final: Fraction of the parameters that are left at the end, in (0, 1).
        evaluate: Function from a model to a score, told after each round if `verbose` is 1.
        checkpoint: Folder for the model after each round. An interrupted run goes on behind the
            last round that was finished. None (default): nothing is stored.
        verbose: 1 for a line for each round.
        **arguments: Other arguments of `apply` than the budget.

    Returns:
        The narrow model after its last training, compiled as the original was.

    Raises:
        TypeError: If `train` is no function, or an argument is none of `apply`'s.
        ValueError: For `steps` or `final` that make no sense, for a size that can't be reached, and
            for a checkpoint of another run.

    Examples:
        >>> import keras, numpy as np, keras_dfprune as dfprune
        >>> model = keras.Sequential([keras.Input((8,)), *map(keras.layers.Dense, (20, 3))])
        >>> model.compile("adam", "mse")
        >>> x, y = np.ones((32, 8)), np.ones((32, 3))
        >>> narrow = dfprune.prune_and_train(
        ...     model, lambda narrow: narrow.fit(x, y, verbose=0), steps=2, final=0.3
        ... )
        >>> narrow.count_params() <= 0.3 * model.count_params()
        True
    """
    if not callable(train):
        raise TypeError(f"`train` must be a function that trains a model. Received: {train!r}")
    if not (is_number(steps) and int(steps) == steps and steps >= 1):
        raise ValueError(f"`steps` must be an integer of at least 1. Received: {steps!r}")
    if not (is_number(final) and 0.0 < final < 1.0):
        raise ValueError(
            f"`final` must be the fraction of the parameters that are left, in (0, 1). Received: "
            f"{final!r}"
        )
    check_no_budget(arguments)
    located = locate_in_any(model)
    request = with_data_read(read_request(**arguments), located.model)
    whole = model.count_params()
    _check_reachable(located, request, final)
    settings = settings_of(located, request, steps=int(steps), final=float(final))
    rounds = _Rounds(checkpoint, {**settings, "format": _FORMAT})
    done, narrow = rounds.load(model)
    for number in range(done + 1, int(steps) + 1):
        limit = int(whole * final ** (number / steps))
        if narrow.count_params() > limit:
            narrow = plan_and_apply(narrow, _for_round(request, narrow, limit))[1]
        trained = train(narrow)
        narrow = trained if isinstance(trained, keras.Model) else narrow
        rounds.save(number, narrow)
        if verbose:
            score = "" if evaluate is None else f", score {evaluate(narrow):.5g}"
            print(  # noqa: T201 - the caller asked for it
                f"round {number} of {steps}: {narrow.count_params():,} of {whole:,} parameters"
                f"{score}"
            )
    return narrow


def _for_round(request: Request, narrow: keras.Model, limit: int) -> Request:
    """Return the request for one round: its budget, and the rows under the model's own names."""
    data = request.data
    if data is not None:
        data = adapt_samples(data, narrow)
    return dataclasses.replace(request, max_params=limit, data=data)


def _check_reachable(located: LocatedModel, request: Request, final: float) -> None:
    """Check before any training that the final size isn't below the narrowest layers."""
    whole = located.model.count_params()
    multiples, groups = choose_groups(located, request).multiples, located.layout.prunable
    least = {name: min(multiple, groups[name].units) for name, multiple in multiples.items()}
    minimum = count_parameters(located.layout, whole).total(least)
    if minimum > final * whole:
        raise ValueError(
            f"`final={final}` can't be reached: with every layer that may be cut at its narrowest "
            f"the model still has {minimum} of {whole} parameters. Allow at least that many."
        )


class _Rounds:
    """Folder with the model after each round, and a file that says how many are done."""

    def __init__(self, path: str | os.PathLike[str] | None, settings: dict[str, Any]):
        self._folder = None if path is None else pathlib.Path(path)
        self._settings = settings

    def load(self, model: keras.Model) -> tuple[int, keras.Model]:
        """Return the number of rounds that are done, and the model after them."""
        if self._folder is None or not (self._folder / "rounds.json").exists():
            return 0, model
        try:
            found = read_sealed(self._folder / "rounds.json")
        except ValueError as error:
            raise self._damaged("rounds.json", error) from error
        done = found.pop("done", 0)
        check_same(found, self._settings, f"The checkpoint '{self._folder}'", "run")
        file = self._folder / f"round{done}.keras"
        try:
            check_archive(file)
            return done, keras.saving.load_model(file)
        except Exception as error:  # Keras and zipfile raise errors of a dozen types
            raise self._damaged(file.name, error) from error

    def _damaged(self, name: str, error: Exception) -> ValueError:
        return ValueError(
            f"The checkpoint '{self._folder}' can't be read: '{name}': {cause(error)}. Delete it "
            "to begin anew, or name another one."
        )

    def save(self, number: int, model: keras.Model) -> None:
        """Store the model after a round; the file that counts is replaced last."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with written(self._folder / f"round{number}.keras") as staged:
            model.save(staged)
        write_sealed(self._folder / "rounds.json", {**self._settings, "done": number})
