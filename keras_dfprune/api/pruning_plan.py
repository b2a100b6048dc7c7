"""Put the verbs on a plan: print, plot, report, save, load, and apply it to the model."""

import dataclasses
import os
from typing import Any

import keras
import tensorflow as tf

from keras_dfprune.api.apply_plan import groups_for, images_for, rows_for, tell_of_other_merges
from keras_dfprune.api.narrow_model import narrow_model
from keras_dfprune.api.open_model import locate_in_any
from keras_dfprune.api.plan_again import plan_again
from keras_dfprune.api.plan_arguments import plain_arguments
from keras_dfprune.api.profile import Profile
from keras_dfprune.inputs.rows import Rows
from keras_dfprune.methods.merge import ChosenUnits
from keras_dfprune.planning.plan_data import PlanData
from keras_dfprune.planning.plan_file import read_plan, write_plan
from keras_dfprune.planning.planner import Planned
from keras_dfprune.planning.request import Request, method_of_plan, read_budget, with_budget
from keras_dfprune.planning.resize import resized
from keras_dfprune.planning.reuse import merge_anew
from keras_dfprune.rebuild.rebuild import rebuild
from keras_dfprune.refine.distill import Refinement
from keras_dfprune.report.html_report import write_report
from keras_dfprune.report.memory import clear_memory_errors
from keras_dfprune.report.notebook import notebook_html
from keras_dfprune.report.plan_dict import plan_dict
from keras_dfprune.report.plot import plot_plan
from keras_dfprune.report.progress import Progress
from keras_dfprune.report.silence import without_keras_warnings
from keras_dfprune.report.table import render
from keras_dfprune.surgery.carry_out import carry_out
from keras_dfprune.surgery.weights import LayerStates


@dataclasses.dataclass(frozen=True, eq=False)
class PruningPlan(PlanData):
    """Units to remove from a model, to look at before anything is cut. `plan` makes it.

    Attributes:
        groups: A `GroupPlan` for each group that was asked for, in the order of the graph.
        refusals: A `Refusal` for each layer that can't be pruned, with the reason.
        parameters: Parameters of the model before and after, biases included.
        method: Name and settings of the method.
        model_name: Name of the model.
        fingerprint: Digests of the model's weights, by layer.
        notes: Further sentences for the report.
        measured: What the cut changes: an `OutputChange` for each output, before recovery. Empty
            where nothing changes.
        refine_steps: Steps of recovery after the cut, 0 for none.
        seed: Seed of the draws.
        used_data: Whether the caller gave rows.
        rows: The rows that were used, for recovery; or None. Not saved.
        request: The arguments that the plan was made from, or None after loading. Not saved.
        verify: Whether `apply` compares its result with the wide twin. Not saved.
        verbose: Whether `apply` shows its progress. Not saved.
        refined: What the refinement reached when the plan was last applied, by the first layer of
            each chain: `before` and `after` are squared differences from the original's outputs
            over their variance. Empty before that. Not saved.
    """

    rows: Rows | None = None
    request: Request | None = None
    verify: bool = True
    verbose: int = 0
    refined: dict[str, Refinement] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return render(self)

    def __repr__(self) -> str:  # the arrays inside would fill the screen
        before, after = self.parameters
        return f"<PruningPlan for '{self.model_name}': {before:,} -> {after:,} parameters>"

    def _repr_html_(self) -> str:
        """Return the plan as a table for notebooks."""
        return notebook_html(self)

    @property
    def arguments(self) -> dict[str, Any] | None:
        """Arguments of `plan` that differ from their defaults, in plain values; None after loading.

        Rows are left out, and `"method"` holds the method's name and the settings that differ.
        """
        return None if self.request is None else plain_arguments(self.request, self.method)

    def apply(
        self,
        model: keras.Model,
        *,
        data: Any = None,
        reuse: bool = False,
        verify: bool | None = None,
    ) -> keras.Model:
        """Make the narrow model.

        Args:
            model: The model that was planned for. It is not changed.
            data: Unlabelled rows to recover on, and for the merges of another model (`reuse`), as
                `keras_dfprune.apply` takes them. None (default): those of the plan, as long as it
                has not been saved and loaded.
            reuse: True to allow a model with the same layers and other weights: a copy that was
                trained further, a target network, the other folds of a cross-validation. The same
                units are removed. How the kept units take over is computed anew on the model's
                weights, by the plan's method. Names of layers may differ. Default: False.
            verify: Whether to compare the result with the wide twin. None: as planned.

        Returns:
            A new model of the same kind, compiled as `model` was.

        Raises:
            TypeError: If `model` is not a Keras 3 model.
            ValueError: If the plan was made for another model; the message says what differs. Or
                if it has `refine_steps` and is applied inside the scope of a
                `tf.distribute.Strategy`.
            VerificationError: If the result doesn't compute what the plan says.
        """
        self.check_scope()
        with without_keras_warnings(), clear_memory_errors():
            located, progress = locate_in_any(model), Progress(self.verbose)
            groups, changed = groups_for(self, located, reuse)
            needs_merges = changed or any(isinstance(g.merge, ChosenUnits) for g in groups)
            method = method_of_plan(self.method) if needs_merges else None
            rows = rows_for(self, located, data, method, changed=changed, progress=progress)
            if method is not None:
                groups = merge_anew(located, groups, method, rows, progress)
            if changed:
                tell_of_other_merges(self, model, merges_are_new=method is not None)
                groups = tuple(group.on_other_weights() for group in groups)
            states = LayerStates(located.layout)
            for group in progress.over("Merging", groups):
                carry_out(located.layout.prunable[group.layer], group.merge, states)
            wanted = self.verify if verify is None else verify
            rebuilt = rebuild(located, states, progress)
            plan = dataclasses.replace(self, groups=groups)
            made = narrow_model(located, plan, rebuilt, rows, verify=wanted, progress=progress)
        self.refined.update(made.refined)
        return made.model

    def at(
        self, *, model: keras.Model | None = None, data: Any = None, **budget: Any
    ) -> "PruningPlan":
        """Return the plan of another size.

        Orders and costs are those of this plan. How the kept units take over is computed by
        `apply`. With `model` the plan is made anew for the new size, and what it changes is
        measured.

        Args:
            model: The model that was planned for. Needed where a size depends on more than the
                plan holds: the message says so. Default: None.
            data: Unlabelled rows for a plan that was made with `data` and has been loaded from a
                file. Default: None.
            **budget: One of `max_params`, `max_flops`, `max_bytes`, `sparsity` and `tolerance`, and
                `multiple_of`, as `keras_dfprune.apply` takes them. Without `multiple_of` the
                plan's own holds on.

        Raises:
            TypeError: For another argument.
            ValueError: For a budget that makes no sense or can't be reached, for another model, and
                where the model is needed.

        Examples:
            >>> import keras, keras_dfprune as dfprune
            >>> model = keras.Sequential([keras.Input((8,)), *map(keras.layers.Dense, (20, 10, 3))])
            >>> plan = dfprune.plan(model, max_params=0.5)
            >>> [plan.at(max_params=size).parameters[1] <= size * 423 for size in (0.7, 0.3)]
            [True, True]
        """
        other_multiples = "multiple_of" in budget
        own: Any = {group.layer: group.multiple for group in self.groups} or 1
        if self.request is not None:
            own = self.request.multiple_of
        asked = read_budget({"multiple_of": own, **budget})
        if model is None:
            request = None if self.request is None else with_budget(self.request, asked)
            changed = resized(self, asked, other_multiples=other_multiples)
            return dataclasses.replace(self, **changed, request=request, refined={})
        return self.of(*plan_again(self, self.request, model, data, asked))

    @classmethod
    def of(cls, planned: Planned, request: Request) -> "PruningPlan":
        """Return a plan with what it was made from.

        Args:
            planned: The plan, with the rows that were used.
            request: The caller's arguments.
        """
        return cls(
            **vars(planned.plan),
            rows=planned.rows,
            request=request,
            verify=request.verify,
            verbose=request.verbose,
        )

    def check_scope(self) -> None:
        """Check that a plan with refinement isn't applied inside the scope of a strategy.

        Raises:
            ValueError: If it is.
        """
        if self.refine_steps and tf.distribute.has_strategy():
            raise ValueError(
                "`refine_steps` trains the narrow layers on one device. Call this outside "
                "`strategy.scope()`, or plan without `refine_steps`."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to one `.npz` file without pickled objects.

        Args:
            path: The file. `.npz` is the usual ending.
        """
        write_plan(path, self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "PruningPlan":
        """Read a plan that `save` wrote.

        Args:
            path: The file.

        Raises:
            ValueError: If the file is no plan, is damaged, or comes from a newer version.
        """
        return cls(**vars(read_plan(path)))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the costs of each group's removals, with the cut marked.

        A cost is what the method orders the removals by: the saliency, or the expected squared
        change of the consumers' outputs, over the variance. Groups whose cut-off was read from a
        histogram get this, too.

        Args:
            path: The picture. The ending decides the format.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        plot_plan(self, path)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        model: keras.Model | None = None,
        profiles: tuple[Profile, Profile] | None = None,
    ) -> None:
        """Write a report that explains the plan to others: one HTML file that needs no network.

        It shows what was asked, the sizes before and after, the units of each layer, the costs
        of their removal with the cut marked, which unit went into which, how much the outputs
        change, what was refused, and the Python code that repeats the plan.

        Args:
            path: The file, such as `"report.html"`. An old one is replaced when the new one is
                complete.
            model: The model that was planned for, to show the weights of layers that read images.
            profiles: Results of `profile` before and after the cut, of the models or of files: the
                page then shows bytes, memory and, where it was measured, LiteRT's latency.

        Raises:
            TypeError: If `profiles` isn't a pair of them.
            ValueError: If the plan was made for another model.
            ImportError: If jinja2 or matplotlib is not installed.
            OSError: If the file can't be written. An old one then stays as it is.

        Examples:
            >>> import pathlib, tempfile, keras, keras_dfprune as dfprune
            >>> model = keras.Sequential([keras.Input((8,)), *map(keras.layers.Dense, (20, 3))])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = pathlib.Path(folder, "report.html")
            ...     dfprune.plan(model, sparsity=0.5).report(path)
            ...     path.read_text(encoding="utf-8")[:15]
            '<!doctype html>'
        """
        write_report(self, path, profiles=profiles, images=images_for(self, model))

    def to_dict(self) -> dict[str, Any]:
        """Return what the plan says in plain values, for `json.dumps`.

        Returns:
            Dict with the plan's attributes. Arrays and pairs are lists, and numbers that are not
            finite are the texts `"inf"`, `"-inf"` and `"nan"`. Merges, rows and the fingerprint
            are left out: `save` writes a plan that can be loaded.

        Examples:
            >>> import json, keras, keras_dfprune as dfprune
            >>> model = keras.Sequential([keras.Input((8,)), *map(keras.layers.Dense, (20, 3))])
            >>> values = dfprune.plan(model, sparsity=0.5).to_dict()
            >>> json.loads(json.dumps(values)) == values
            True
            >>> values["parameters"], values["groups"][0]["units"]
            ([243, 123], 20)
        """
        return plan_dict(self)
