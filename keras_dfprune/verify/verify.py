"""Check that a narrow model computes what its wide twin computes.

Each comparison is on two random examples: `max|y - y'| / max|y|` of the output that differs most.
"""

from collections.abc import Mapping

import keras
import numpy as np

from keras_dfprune.graph.calls import Graph
from keras_dfprune.graph.compare_outputs import compare_output, is_number
from keras_dfprune.inputs.model_inputs import Samples, adapt_samples, run_model
from keras_dfprune.inputs.sample_inputs import draw_samples
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.methods.merge import UnitMerge
from keras_dfprune.report.progress import SILENT, Progress
from keras_dfprune.report.warning import warn
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
    merges: Mapping[str, UnitMerge],
    *,
    lossless: bool = False,
    progress: Progress = SILENT,
) -> None:
    """Compare a narrow model with the wide twin on two random examples.

    Args:
        located: The original with its groups.
        narrow: The model that was rebuilt from it.
        merges: The merge of each pruned group, in the order in which they were carried out.
        lossless: Whether all removals change nothing. Then the narrow model must agree with the
            original itself, too: the wide twin believes the plan, and only the original shows
            whether the units really are copies.
        progress: Shows how many layers of the wide twin are done.

    Raises:
        VerificationError: If their outputs differ by more than 1e-4 of the largest one in float32,
            or if a plain copy of the original doesn't compute what the original computes.
    """
    model, precision = located.model, _coarsest_precision(located.graph)
    try:
        inputs = draw_samples(model)
    except ValueError as error:
        warn(
            f"The pruned model could not be verified: {error} Compare the outputs of both models "
            "on inputs of your own."
        )
        return
    reference = _run(model, inputs)
    if _largest_difference(reference, _run(model, inputs)) > 0:
        warn(
            "The pruned model could not be verified: the model answers differently each time it "
            "is called on the same inputs."
        )
        return
    twin, operations = wide_copy(located, progress)
    copied = _largest_difference(reference, _run(twin, inputs))
    if not copied <= _COPY_TOLERANCE[precision]:
        raise VerificationError(
            f"A plain copy of model '{model.name}', made layer by layer from their configs, "
            f"differs from it by {copied:.1e} of the largest output. A custom layer's "
            "`get_config()` probably leaves out something that its outputs depend on."
        )
    edit_twin(located.layout, merges, operations)
    expected = {" with the same units cut off": _run(twin, inputs)}
    if lossless:
        expected[", although only removals that change nothing were planned"] = reference
    received = _run(narrow, inputs)
    for which, outputs in expected.items():
        difference = _largest_difference(outputs, received)
        if not difference <= _TOLERANCE[precision]:
            raise VerificationError(
                f"The pruned model of '{model.name}' differs by {difference:.1e} of the largest "
                f"output from the original{which}. Nothing was changed; please report this as a "
                "bug of keras_dfprune, with the model's summary."
            )


def _run(model: keras.Model, inputs: Samples) -> list[np.ndarray]:
    outputs = run_model(model, adapt_samples(inputs, model))
    return [
        array.astype(np.float32) if is_number(array) else array  # strings stay strings
        for array in outputs.values()
    ]


def _largest_difference(expected: list[np.ndarray], received: list[np.ndarray]) -> float:
    """Return the largest relative difference of all outputs, infinite where shapes differ."""
    pairs = zip(expected, received, strict=True)
    return max((compare_output(a, b, strict_nonfinite=False).relative for a, b in pairs), default=0)


def _coarsest_precision(graph: Graph) -> str:
    """Return the coarsest dtype in which a layer computes, as a key of the tolerances."""
    layers = (call.operation for call in graph.calls if isinstance(call.operation, keras.Layer))
    dtypes = {layer.compute_dtype for layer in layers}
    return next((name for name in ("bfloat16", "float16") if name in dtypes), "float32")
