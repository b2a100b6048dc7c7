"""Check that a narrow model computes what its wide twin computes.

Each comparison is on two random examples: `max|y - y'| / max|y|` of the output that differs most.
"""

from collections.abc import Callable, Mapping

import keras
import numpy as np

from keras_dfprune.graph.before_activation import with_fronts
from keras_dfprune.graph.calls import Graph
from keras_dfprune.graph.compare_outputs import compare_output
from keras_dfprune.inputs.model_inputs import Samples, adapt_samples, model_runner
from keras_dfprune.inputs.sample_inputs import GivenRows, draw_and_run
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.merge import Removal
from keras_dfprune.report.progress import SILENT, Progress
from keras_dfprune.report.warning import warn
from keras_dfprune.verify.changed_layer import find_changed_layer
from keras_dfprune.verify.wide_twin import edit_twin, wide_copy

# Largest difference allowed, relative to the largest output, by the coarsest dtype in which a layer
# computes. Half precision rounds in another order in a narrower sum.
_TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
# The same for a plain copy, which repeats the same operations.
_COPY_TOLERANCE = {"float32": 1e-6, "float16": 2e-2, "bfloat16": 1e-1}


class VerificationError(RuntimeError):
    """Error for a narrow model that doesn't compute what the plan says. Don't use the model."""


def verify_narrow(
    located: LocatedModel,
    narrow: keras.Model,
    merges: Mapping[str, Removal],
    *,
    lossless: bool = False,
    rows: GivenRows | None = None,
    progress: Progress = SILENT,
) -> None:
    """Compare a narrow model with the wide twin on two random examples.

    Outputs are compared in front of the last activation too, which may be saturated.

    Args:
        located: The original with its groups.
        narrow: The model that was rebuilt from it.
        merges: The merge of each pruned group, in the order in which they were carried out.
        lossless: Whether all removals change nothing. Then the narrow model must agree with the
            original itself, too: the wide twin believes the plan, and only the original shows
            whether the units really are copies.
        rows: Arrays to take the examples from, by the name of the input or in the order of the
            inputs; None for random ones.
        progress: Shows how many layers of the wide twin are done.

    Raises:
        VerificationError: If their outputs differ by more than 1e-4 of the largest one in float32,
            or if a plain copy of the original doesn't compute what the original computes.
    """
    precision = _coarsest_precision(located.graph)
    try:
        inputs, reference = draw_and_run(with_fronts(located.model), rows)
    except ValueError as error:
        warn(
            f"The pruned model could not be verified: {error} Compare the outputs of both models "
            "on inputs of your own, or pass verify=False."
        )
        return
    twin, operations = wide_copy(located, progress)
    run_twin = _runner(twin)
    copied = _largest_difference(reference, run_twin(inputs))
    if not copied <= _COPY_TOLERANCE[precision]:
        if not _is_random(located, inputs, reference):
            raise VerificationError(_explain_copy(located, inputs, operations, copied, precision))
        return
    edit_twin(located.layout, merges, operations)
    expected = {" with the same units cut off": run_twin(inputs)}
    if lossless:
        expected[", although only removals that change nothing were planned"] = reference
    received = _runner(narrow)(inputs)
    for which, outputs in expected.items():
        difference = _largest_difference(outputs, received)
        if not difference <= _TOLERANCE[precision]:
            raise VerificationError(
                f"The pruned model of '{located.model.name}' differs by {difference:.1e} of the "
                f"largest output from the original{which}. Nothing was changed; please report "
                "this as a bug of keras_dfprune, with the model's summary."
            )


Outputs = dict[str, np.ndarray]


def _runner(model: keras.Model) -> Callable[[Samples], Outputs]:
    """Return a function that runs a model on the inputs of the original."""
    run = model_runner(with_fronts(model))
    return lambda inputs: run(adapt_samples(inputs, model))


def _is_random(located: LocatedModel, inputs: Samples, reference: Outputs) -> bool:
    """Return whether the original answers differently when it is called again; warn if it does."""
    model = located.model
    changed = find_changed_layer(model, located.graph, inputs)
    if changed is not None:
        culprit, difference = f"layer {changed.name}", changed.difference
    else:
        culprit, difference = (
            "the model",
            _largest_difference(reference, _runner(model)(inputs)),
        )
    if difference == 0:
        return False
    warn(
        f"The pruned model could not be verified: {culprit} answers differently each time it is "
        f"called on the same inputs, by {difference:.1e} of its largest value. Let it draw from a "
        "keras.random.SeedGenerator of its own and keep its state in variables, or pass "
        "verify=False."
    )
    return True


def _explain_copy(
    located: LocatedModel,
    inputs: Samples,
    operations: Mapping[str, keras.Operation],
    copied: float,
    precision: str,
) -> str:
    """Explain why a plain copy differs from the original: name the layer, and say what to do."""
    changed = find_changed_layer(
        located.model, located.graph, inputs, operations, _COPY_TOLERANCE[precision]
    )
    where = "" if changed is None else (
        f" The first layer that differs is {changed.name}, by {changed.difference:.1e} of its "
        "largest value."
    )  # fmt: skip
    return (
        f"A plain copy of model '{located.model.name}', made layer by layer from their configs, "
        f"differs from it by {copied:.1e} of the largest output.{where} Its `get_config()` "
        "probably leaves out something that its outputs depend on, or it keeps a state outside of "
        "variables. Add that, or open the layer with keras_dfprune.functionalize. verify=False "
        "skips this check, and the pruned model is then as wrong as the copy."
    )


def _largest_difference(expected: Outputs, received: Outputs) -> float:
    """Return the largest relative difference of all outputs, infinite where shapes differ."""
    pairs = zip(expected.values(), received.values(), strict=True)
    return max((compare_output(a, b, strict_nonfinite=False).relative for a, b in pairs), default=0)


def _coarsest_precision(graph: Graph) -> str:
    """Return the coarsest dtype in which a layer computes, as a key of the tolerances."""
    layers = (call.operation for call in graph.calls if isinstance(call.operation, keras.Layer))
    dtypes = {layer.compute_dtype for layer in layers}
    return next((name for name in ("bfloat16", "float16") if name in dtypes), "float32")
