"""Train a narrow model to follow a wide one: the public function `distill`."""

import numbers
import os
from typing import Any

import keras

from keras_dfprune.graph.check_model import check_model
from keras_dfprune.inputs.model_inputs import is_same_shape, kind_of_dtype, read_inputs
from keras_dfprune.inputs.rows import drawn_rows, rows_of_data
from keras_dfprune.locate.locate import locate_model
from keras_dfprune.rebuild.compile_state import carry_compile_state
from keras_dfprune.rebuild.overrides import warn_of_lost_overrides
from keras_dfprune.rebuild.rebuild import rebuild
from keras_dfprune.refine.batches import needs_mixtures
from keras_dfprune.refine.recover import recover
from keras_dfprune.report.memory import clear_memory_errors
from keras_dfprune.report.progress import Progress
from keras_dfprune.report.silence import without_keras_warnings
from keras_dfprune.report.table import refined_sentences
from keras_dfprune.surgery.weights import LayerStates


def distill(
    narrow: keras.Model,
    wide: keras.Model,
    data: Any = None,
    steps: int = 1000,
    *,
    batch_size: int = 256,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    verbose: int = 0,
) -> keras.Model:
    """Train a copy of a narrow model to follow a wide one, without labels.

    What is minimised is the squared difference of the outputs in front of the last activations.
    BatchNormalization uses its moving statistics and Dropout is off. Frozen layers don't change,
    and constraints are kept. A quarter of the rows, at most 512, is held out: the result has the
    weights that were best on them, which may be those of `narrow`.

    Args:
        narrow: A built Sequential or Functional model, for example a pruned one. It is not changed.
        wide: A built Sequential or Functional model with inputs and outputs of the same shapes, in
            the same order. It is not changed.
        data: Unlabelled inputs: an array; a dict of arrays by input name; a list or tuple of
            arrays, one for each input; a `tf.data.Dataset`, or a generator or a function without
            arguments that returns one, of batches, where `(x, y)` tuples lose their `y`. At least
            2 rows; at most 8,192 are used. None (default): random draws, standard normal for
            inputs of floats.
        steps: Int, 0 or more: training steps.
        batch_size: Int, 1 or more: rows in each step.
        checkpoint: Path of a file that keeps the state of the training. If it exists, the training
            goes on from there, with the result of a training without interruption. The file is
            left when the training has finished. None (default): no file.
        seed: Int, 0 or more. Equal seeds give equal results on one machine.
        verbose: 1 for a progress bar and the difference before and after; 0 (default) for silence.

    Returns:
        A new Keras model of the same kind as `narrow`, compiled as it was, with the state of
        its optimizer.

    Raises:
        TypeError: If one of the models is not a Keras 3 model.
        ValueError: If one of the models isn't built or its graph can't be seen, if their inputs or
            outputs don't fit, for `data` with fewer than 2 rows or that doesn't fit the inputs, and
            for a `checkpoint` of another training.

    Examples:
        >>> import keras, keras_dfprune as dfprune
        >>> wide = keras.Sequential(
        ...     [keras.Input((8,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(3)]
        ... )
        >>> narrow = dfprune.distill(dfprune.apply(wide, sparsity=0.5), wide, steps=10)
        >>> narrow.layers[0].units
        10
    """
    _check_whole_numbers(steps=(steps, 0), batch_size=(batch_size, 1), seed=(seed, 0))
    check_model(narrow)
    check_model(wide)
    _check_fit(narrow, wide)

    progress = Progress(verbose)
    with without_keras_warnings(), clear_memory_errors():
        rows = rows_of_data(wide, data, seed) if data is not None else drawn_rows(wide, seed)
        located = locate_model(narrow)
        copy = rebuild(located, LayerStates(located.layout), progress)
        reached = recover(
            copy.model,
            wide,
            rows.fit,
            rows.held_out,
            steps=steps,
            batch_size=batch_size,
            seed=seed,
            mixtures=needs_mixtures(rows.fit),
            checkpoint=checkpoint,
            untouched=narrow.variables,
            progress=progress,
        )
    if progress.verbose:
        print("\n".join(refined_sentences({narrow.name: reached})))  # noqa: T201 - asked for
    carry_compile_state(narrow, copy.model, copy.variables)
    warn_of_lost_overrides(narrow)
    return copy.model


def _check_whole_numbers(**arguments: tuple[Any, int]) -> None:
    """Check that each argument is a whole number that isn't below its minimum."""
    for name, (value, least) in arguments.items():
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise ValueError(
                f"Expected `{name}` to be a whole number, {least} or more. "
                f"Received: {name}={value!r}."
            )


def _check_fit(narrow: keras.Model, wide: keras.Model) -> None:
    """Check that two models take the same inputs and return outputs of the same shapes."""
    for kind in ("inputs", "outputs"):
        shapes = [
            [tuple(tensor.shape) for tensor in getattr(model, kind)] for model in (narrow, wide)
        ]
        if len(shapes[0]) != len(shapes[1]) or not all(map(is_same_shape, *shapes)):
            raise ValueError(
                f"Expected `narrow` and `wide` with {kind} of the same shapes, in the same order. "
                f"Received: narrow={shapes[0]}, wide={shapes[1]}."
            )
    dtypes = [
        [kind_of_dtype(spec.dtype) for spec in read_inputs(model)] for model in (narrow, wide)
    ]
    if dtypes[0] != dtypes[1]:
        raise ValueError(
            "Expected `narrow` and `wide` with inputs of the same dtypes, in the same order. "
            f"Received: narrow={dtypes[0]}, wide={dtypes[1]}."
        )
