"""A plan and the model that it was made for into the narrow model.

A plan is data: `planner.py` makes it, `plan_file.py` writes it, `table.py` prints it.
"""

import dataclasses
import os
from typing import Any

import keras
import tensorflow as tf

from keras_dfprune.graph.check_model import check_model
from keras_dfprune.graph.fingerprint import difference, layer_digests
from keras_dfprune.graph.read_graph import read_graph
from keras_dfprune.locate.groups import Layout, Refusal
from keras_dfprune.locate.locate import locate
from keras_dfprune.planning.group_plan import GroupPlan
from keras_dfprune.planning.plan_file import read_plan, write_plan
from keras_dfprune.rebuild.compile_state import carry_compile_state
from keras_dfprune.rebuild.rebuild import rebuild
from keras_dfprune.refine.chains import distill
from keras_dfprune.report import table
from keras_dfprune.report.progress import Progress, Steps
from keras_dfprune.surgery.carry_out import carry_out
from keras_dfprune.surgery.weights import LayerStates
from keras_dfprune.verify.verify import verify as verify_model


@dataclasses.dataclass(frozen=True, eq=False)
class PruningPlan:
    """Which units of a model go; made by `keras_dfprune.plan`.

    Attributes:
        groups: A `GroupPlan` for each group that was asked for, in the order of the graph.
        refusals: A `Refusal` for each layer that can't be pruned.
        parameters: Parameters of the model before and after, biases included.
        method: Name and settings of the method.
        model_name: Name of the model.
        fingerprint: Digests of the model's weights by layer.
        notes: Further sentences for the report.
        refinement: Settings for the refinement behind the merge, or None.
        verify: Whether `apply` compares its result with the wide twin; not saved.
        verbose: Whether `apply` shows its progress; not saved.
    """

    groups: tuple[GroupPlan, ...]
    refusals: tuple[Refusal, ...]
    parameters: tuple[int, int]
    method: dict[str, Any]
    model_name: str
    fingerprint: dict[str, list]
    notes: tuple[str, ...] = ()
    refinement: dict[str, Any] | None = None
    verify: bool = True
    verbose: int = 0

    def __str__(self) -> str:
        return table.render(self)

    def __repr__(self) -> str:  # the arrays inside would fill the screen
        before, after = self.parameters
        return f"<PruningPlan for '{self.model_name}': {before:,} -> {after:,} parameters>"

    def apply(self, model: keras.Model, *, verify: bool | None = None) -> keras.Model:
        """Makes the narrow model.

        Args:
            model: The model that was planned for; it is not changed.
            verify: Whether to compare the result with the wide twin; None: as planned.

        Returns:
            A new model of the same kind, compiled as `model` was.

        Raises:
            TypeError: If `model` is not a Keras 3 model.
            ValueError: If the plan was made for another model; the message says what differs. Or
                if it has `refine_steps`, inside the scope of a `tf.distribute.Strategy`.
            VerificationError: If the result doesn't compute what the plan says.
        """
        check_model(model)
        if self.refinement is not None and tf.distribute.has_strategy():
            raise ValueError(
                "`refine_steps` trains the narrow layers on one device. Call this outside "
                "`strategy.scope()`, or plan without `refine_steps`."
            )
        graph = read_graph(model)
        layout = locate(graph)
        apart = difference(self.fingerprint, layer_digests(graph)) or self._misfit(layout)
        if apart:
            raise ValueError(
                f"This plan was made for another model than '{model.name}': {apart}. Make a new "
                "plan with `keras_dfprune.plan(model, ...)`."
            )
        states, progress = LayerStates(layout), Progress(self.verbose)
        for group in progress.over("Merging", self.groups):
            carry_out(layout.groups[group.layer], group.merge, states)
        rebuilt = rebuild(model, graph, layout, states, progress)
        merges = {group.layer: group.merge for group in self.groups}
        if self.verify if verify is None else verify:
            exact = all(len(group.removed) <= group.lossless for group in self.groups)
            narrow = rebuilt.model
            verify_model(model, narrow, graph, layout, merges, lossless=exact, progress=progress)
        if self.refinement is not None:
            steps = Steps("Refining", self.refinement["steps"], self.verbose)
            distill(graph, read_graph(rebuilt.model), layout, merges, self.refinement, steps)
        carry_compile_state(model, rebuilt.model, rebuilt.variables)
        return rebuilt.model

    def _misfit(self, layout: Layout) -> str | None:
        """The first group that a model with the same weights doesn't have."""
        for group in self.groups:
            found = layout.groups.get(group.layer)
            if found is None or found.units != group.units or group.merge.units != group.units:
                return f"layer {group.layer} has no {group.units} units there that can be pruned"
        return None

    def save(self, path: str | os.PathLike) -> None:
        """Writes the plan to one `.npz` file without pickled objects.

        Args:
            path: The file; `.npz` is the usual ending.
        """
        write_plan(path, vars(self))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "PruningPlan":
        """Reads a plan that `save` wrote.

        Args:
            path: The file.

        Raises:
            ValueError: If the file is no plan, is damaged, or comes from a newer version.
        """
        return cls(**read_plan(path))

    def plot(self, path: str | os.PathLike) -> None:
        """Draws each group's saliency curve and histogram, the cut-off marked.

        Args:
            path: The picture; the ending decides the format.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        from keras_dfprune.report.plot import plot_plan  # matplotlib is an extra

        plot_plan(self, path)
