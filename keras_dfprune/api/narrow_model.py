"""Check the narrow model of a plan, refine it and compile it."""

import dataclasses
from collections.abc import Mapping

import keras

from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.inputs.rows import Rows, drawn_rows
from keras_dfprune.locate.locate import LocatedModel
from keras_dfprune.planning.plan_data import PlanData
from keras_dfprune.rebuild.compile_state import carry_compile_state
from keras_dfprune.rebuild.overrides import warn_of_lost_overrides
from keras_dfprune.rebuild.rebuild import Rebuilt
from keras_dfprune.refine.batches import needs_mixtures
from keras_dfprune.refine.chains import refine_chains
from keras_dfprune.refine.distill import Refinement
from keras_dfprune.refine.recover import recover
from keras_dfprune.report.progress import Progress
from keras_dfprune.report.table import refined_sentences
from keras_dfprune.verify.verify import verify_narrow


@dataclasses.dataclass(frozen=True, eq=False)
class NarrowModel:
    """Finished narrow model.

    Attributes:
        model: The model, compiled as the original is.
        refined: What the recovery reached, by the name of the model or of the first layer of each
            chain that was trained; empty without recovery.
    """

    model: keras.Model
    refined: Mapping[str, Refinement]


def narrow_model(
    located: LocatedModel,
    plan: PlanData,
    rebuilt: Rebuilt,
    rows: Rows | None = None,
    *,
    verify: bool,
    progress: Progress,
) -> NarrowModel:
    """Check, refine and compile the narrow model of a plan.

    Args:
        located: The original with its groups.
        plan: The plan.
        rebuilt: The narrow model after all merges of the plan, which becomes the result.
        rows: Rows to recover on, or None for draws.
        verify: Whether to compare the narrow model with the wide twin.
        progress: Shows how many layers, or steps of the refinement, are done.

    Raises:
        VerificationError: If the narrow model doesn't compute what the plan says.
    """
    merges = {group.layer: group.merge for group in plan.groups}
    if verify:
        lossless = all(group.changes_nothing for group in plan.groups)
        verify_narrow(located, rebuilt.model, merges, lossless=lossless, progress=progress)
    refined: Mapping[str, Refinement] = {}
    if plan.refine_steps:
        refined = _recover(located, plan, rebuilt, rows, progress)
        if progress.verbose:
            print("\n".join(refined_sentences(refined)))  # noqa: T201 - the caller asked for it
    carry_compile_state(located.model, rebuilt.model, rebuilt.variables)
    warn_of_lost_overrides(located.model)
    return NarrowModel(rebuilt.model, refined)


def _recover(
    located: LocatedModel,
    plan: PlanData,
    rebuilt: Rebuilt,
    rows: Rows | None,
    progress: Progress,
) -> Mapping[str, Refinement]:
    """Let the narrow model follow the original, on rows or else on draws."""
    steps, seed = plan.refine_steps, plan.seed
    if rows is None:
        # Draws for the inputs of a chain of layers are better than draws for those of a model.
        merges = {group.layer: group.merge for group in plan.groups}
        bar = progress.bar("Recovering", steps, "step")
        narrow = read_graph(rebuilt.model)
        reached = refine_chains(located, narrow, merges, steps, seed, progress=bar.update)
        if reached:
            return reached
        rows = drawn_rows(located.model, seed)
    reached_by_all = recover(
        rebuilt.model,
        located.model,
        rows.fit,
        rows.held_out,
        steps=steps,
        seed=seed,
        mixtures=rows.synthetic or needs_mixtures(rows.fit),
        progress=progress,
    )
    return {located.model.name: reached_by_all}
