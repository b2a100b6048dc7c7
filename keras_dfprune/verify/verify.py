"""A narrow model against its wide twin, and against the original: do they compute the same?

Each comparison is on two random examples: `max|y - y'| / max|y|`, the worst output counts.
"""

import keras
import numpy as np

from keras_dfprune.graph.calls import Graph
from keras_dfprune.inputs.sample_inputs import Samples, draw_samples, hand_over, run_model
from keras_dfprune.locate.groups import Layout
from keras_dfprune.methods.merge import UnitMerge
from keras_dfprune.report.progress import SILENT, Progress
from keras_dfprune.report.warning import warn
from keras_dfprune.verify.wide_twin import edit_twin, wide_copy

# Largest difference allowed, relative to the largest output, by the width of the dtype in which
# some layer computes. Half precision rounds in another order in a narrower sum.
_TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
# The same for a plain copy, which repeats the very same operations.
_COPY_TOLERANCE = {"float64": 1e-6, "float32": 1e-6, "float16": 2e-2, "bfloat16": 1e-1}


class VerificationError(RuntimeError):
    """The narrow model doesn't compute what the plan says; it must not be used."""


def verify(
    model: keras.Model,
    narrow: keras.Model,
    graph: Graph,
    layout: Layout,
    merges: dict[str, UnitMerge],
    *,
    lossless: bool = False,
    progress: Progress = SILENT,
) -> None:
    """Compares a pruned model with the wide twin on two random examples.

    Args:
        model: The original.
        narrow: What was rebuilt from it.
        graph: The graph of `model`.
        layout: Its layout.
        merges: The merge of each pruned group, in the order in which they were made.
        lossless: Whether all that was removed changes nothing: then the original itself has to
            agree too. The twin takes over what a plan says of the units; whether they really are
            copies shows there alone.
        progress: Shows how many layers of the twin are done.

    Raises:
        VerificationError: If their outputs differ by more than 1e-4 of the largest one in
            float32, or a plain copy of the model doesn't compute what the model does.
    """
    try:
        inputs = draw_samples(model)
    except ValueError as error:
        warn(
            f"The pruned model could not be verified: {error} Compare the outputs of both models "
            "on inputs of your own.",
        )
        return
    reference = _run(model, inputs)
    if _difference(reference, _run(model, inputs)) > 0:
        warn(
            "The pruned model could not be verified: the model answers differently each time it "
            "is called on the same inputs.",
        )
        return
    precision = _precision(graph)
    twin, operations = wide_copy(model, graph, layout, progress)
    copied = _difference(reference, _run(twin, inputs))
    if not copied <= _COPY_TOLERANCE[precision]:
        raise VerificationError(
            f"A plain copy of model '{model.name}', made layer by layer from their configs, "
            f"differs from it by {copied:.1e} of the largest output. A custom layer's "
            "`get_config()` probably leaves out something that its outputs depend on."
        )
    edit_twin(graph, layout, merges, operations)
    received = _run(narrow, inputs)
    expected = {" with the same units cut off": _run(twin, inputs)}
    if lossless:
        expected[", although only removals that change nothing were planned"] = reference
    for how, outputs in expected.items():
        apart = _difference(outputs, received)
        if not apart <= _TOLERANCE[precision]:
            raise VerificationError(
                f"The pruned model of '{model.name}' differs by {apart:.1e} of the largest output "
                f"from the original{how}. Nothing was changed; please report this as a bug of "
                "keras_dfprune, with the model's summary."
            )


def _run(model: keras.Model, inputs: Samples) -> list[np.ndarray]:
    outputs = run_model(model, hand_over(inputs, model))
    return [array.astype(np.float32) for array in outputs.values()]


def _difference(expected: list[np.ndarray], received: list[np.ndarray]) -> float:
    """Largest difference over the largest value, of all outputs; infinite where shapes differ."""
    worst = 0.0
    for a, b in zip(expected, received, strict=True):
        if a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return float("inf")
        a, b = np.nan_to_num(a, posinf=0, neginf=0), np.nan_to_num(b, posinf=0, neginf=0)
        scale = np.abs(a).max(initial=0.0)
        apart = np.abs(a - b).max(initial=0.0)
        worst = max(worst, float(apart / scale) if scale > 0 else float(apart))
    return worst


def _precision(graph: Graph) -> str:
    """The coarsest dtype in which a layer computes, as a key of the tolerances."""
    layers = (call.operation for call in graph.calls if isinstance(call.operation, keras.Layer))
    found = {layer.compute_dtype for layer in layers}
    return next((name for name in ("bfloat16", "float16") if name in found), "float32")
