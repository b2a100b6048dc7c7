"""A Keras model into a flat list of calls, and a model with re-made layers out of the same walk.

The only file that reads private attributes of Keras; `tests/test_graph.py` holds what it assumes
of them. Nested models are inlined: a layer of a shared model occurs in several calls.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.models.functional import Functional


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """One symbolic tensor at one call site; compared by identity.

    Attributes:
        shape: Shape with the batch axis first; None for an unknown length.
        dtype: Name of the dtype.
        name: Name of the Keras tensor.
    """

    shape: tuple[int | None, ...]
    dtype: str
    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of an operation.

    Attributes:
        operation: The `keras.Operation`, for most calls a `keras.Layer`.
        path: Its name, with the names of the nested models around it: `inner/fc1`.
        args, kwargs: The arguments, with a `Tensor` in place of each Keras tensor.
        inputs: All tensors among the arguments, in order.
        outputs: The tensors returned.
        training: What `training=` was fixed to, here or by a model around it; else None.
    """

    operation: keras.Operation
    path: str
    args: tuple
    kwargs: dict[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    training: bool | None


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """The calls of a model in topological order, nested models inlined.

    Attributes:
        calls: The calls. An `InputLayer` of a nested model is a call that hands its input on.
        inputs, outputs: The model's tensors.
        paths: Path of each operation, by the operation's `id`.
    """

    calls: tuple[Call, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    paths: dict[int, str]


def functional_core(model: keras.Operation) -> Functional | None:
    """The functional graph that calling `model` runs, or None where there is none to see."""
    if isinstance(model, keras.Sequential):
        overridden = type(model).call is not keras.Sequential.call
        return None if overridden else model._functional
    if isinstance(model, Functional) and type(model).call is Functional.call:
        return model
    return None


def read_graph(model: keras.Model) -> Graph:
    """Reads the calls of a Sequential or Functional model.

    Args:
        model: A built model for which `functional_core` is not None.

    Returns:
        A `Graph`.
    """
    reader = _Reader()
    core = functional_core(model)
    inputs = tuple(_describe(tensor) for tensor in core.inputs)
    for tensor in core.inputs:
        layer = tensor._keras_history.operation
        reader.paths.setdefault(id(layer), layer.name)
    outputs = reader.walk(core, inputs, prefix="", training=None)
    return Graph(tuple(reader.calls), inputs, outputs, reader.paths)


def run_calls(graph: Graph, given: Mapping[Tensor, Any]) -> dict[Tensor, Any]:
    """Runs the calls of a graph at inference, one by one.

    Args:
        graph: A graph.
        given: A value for each of its inputs.

    Returns:
        The values of all tensors.
    """
    known = dict(given)

    def fill(value):
        return known[value] if isinstance(value, Tensor) else value

    for call in graph.calls:
        if isinstance(call.operation, keras.layers.InputLayer):
            results = [known[call.inputs[0]]]
        else:
            args, kwargs = keras.tree.map_structure(fill, (call.args, call.kwargs))
            results = keras.tree.flatten(call.operation(*args, **kwargs))
        known.update(zip(call.outputs, results, strict=True))
    return known


class _Reader:
    """Collects calls while it walks through a model and the models inside it."""

    def __init__(self):
        self.calls: list[Call] = []
        self.paths: dict[int, str] = {}

    def walk(self, core, inputs, prefix, training) -> tuple[Tensor, ...]:
        known = {id(symbol): tensor for symbol, tensor in zip(core.inputs, inputs, strict=True)}
        for node in _ordered_nodes(core):
            path = self.paths.setdefault(id(node.operation), prefix + node.operation.name)
            self._call(node, path, known, training)
        return tuple(known[id(symbol)] for symbol in core.outputs)

    def _call(self, node, path, known, training):
        args, kwargs = node.arguments.fill_in(known)
        inputs = tuple(known[id(symbol)] for symbol in node.input_tensors)
        own = kwargs.get("training")
        if training is None and own is not None:  # what a model was called with goes first
            training = bool(own)
        core = functional_core(node.operation)
        if core is not None:
            inputs = _by_name(core, args, kwargs, inputs)
        if core is not None and len(inputs) == len(core.inputs):
            inner = self._enter(core, inputs, path + "/")
            outputs = self.walk(core, inner, path + "/", training)
        else:
            outputs = tuple(_describe(symbol) for symbol in node.outputs)
            call = Call(node.operation, path, args, kwargs, inputs, outputs, training)
            self.calls.append(call)
        known.update((id(s), t) for s, t in zip(node.outputs, outputs, strict=True))

    def _enter(self, core, inputs, prefix) -> tuple[Tensor, ...]:
        inner = []
        for symbol, tensor in zip(core.inputs, inputs, strict=True):
            layer = symbol._keras_history.operation
            path = self.paths.setdefault(id(layer), prefix + layer.name)
            inner.append(_describe(symbol))
            self.calls.append(Call(layer, path, (tensor,), {}, (tensor,), (inner[-1],), None))
        return tuple(inner)


def _by_name(core: Functional, args: tuple, kwargs: dict, inputs: tuple) -> tuple:
    """The tensors of a call in the order of the called model's inputs.

    Keras finds them by their names where a model that takes no dict is called with one.
    """
    given = args[0] if args else kwargs.get("inputs")
    if not isinstance(given, dict) or isinstance(core._inputs_struct, dict):
        return inputs
    found = tuple(given.get(symbol.name) for symbol in core.inputs)
    return found if None not in found else inputs


def _describe(symbol: keras.KerasTensor) -> Tensor:
    return Tensor(tuple(symbol.shape), symbol.dtype, symbol.name)


def _ordered_nodes(core: Functional) -> list:
    """The nodes of a functional graph, inputs left out, each after those that it needs."""
    depths = sorted(core._nodes_by_depth, reverse=True)
    nodes = [node for depth in depths for node in core._nodes_by_depth[depth]]
    return [node for node in nodes if not node.is_input]


def all_layers(layer: keras.Layer) -> list[keras.Layer]:
    """`layer` and every layer inside it, each once, in a fixed order."""
    return list({id(inner): inner for inner in layer._flatten_layers()}.values())


def detached(operation: keras.Operation) -> keras.Operation:
    """The same operation, variables and attributes shared, with a call history of its own."""
    twin = object.__new__(type(operation))
    twin.__dict__.update(operation.__dict__)
    twin.__dict__.update(_inbound_nodes=[], _outbound_nodes=[])
    return twin


def is_detached(twin: keras.Operation, operation: keras.Layer) -> bool:
    """Whether `twin` is what `detached` made of a layer."""
    return vars(twin).get("_tracker") is vars(operation)["_tracker"]


def copy_model(
    model: keras.Model,
    remake: Callable[[keras.Operation], keras.Operation],
    edit_arguments: Callable[[keras.Operation, tuple, dict], tuple[tuple, dict]] | None = None,
) -> tuple[keras.Model, list[tuple[keras.Operation, keras.Operation]]]:
    """Builds a new model that calls re-made operations in the way `model` calls its own.

    Args:
        model: A built Sequential or Functional model; it and its layers stay as they are.
        remake: Function from an operation to the one that takes its place; called once for each
            operation, `InputLayer` included, but not for nested models, which are copied.
        edit_arguments: Function from an operation and the arguments of one call to the arguments
            to use instead; called before the new tensors are filled in. None to keep them.

    Returns:
        The new model (a `Sequential` for a `Sequential`, else a functional `keras.Model`), and
        pairs of each old operation with its new one, models before what is in them.
    """
    copier = _Copier(remake, edit_arguments or _as_they_are)
    new = copier.copy(model)
    return new, [(model, new), *_models_first(copier.pairs)]


def _as_they_are(operation, args, kwargs):
    return args, kwargs


def _models_first(pairs) -> list[tuple[keras.Operation, keras.Operation]]:
    models = [(old, made) for old, made in pairs if isinstance(made, keras.Model)]
    others = [(old, made) for old, made in pairs if not isinstance(made, keras.Model)]
    return [*reversed(models), *others]


class _Copier:
    """Copies a model and the models inside it; each operation is re-made once."""

    def __init__(self, remake, edit_arguments, identify=id):
        self._remake = remake
        self._edit_arguments = edit_arguments
        self._identify = identify  # which tensors are the same
        self._made: dict[int, keras.Operation] = {}
        self.pairs: list[tuple[keras.Operation, keras.Operation]] = []

    def operation(self, operation):
        if id(operation) not in self._made:
            nested = functional_core(operation) is not None
            new = self.copy(operation) if nested else self._remake(operation)
            self._made[id(operation)] = new
            self.pairs.append((operation, new))
        return self._made[id(operation)]

    def copy(self, model):
        if isinstance(model, keras.Sequential):
            layers = [self.operation(layer) for layer in model._layers]
            return keras.Sequential(layers, name=model.name)
        known = {}
        for symbol in model.inputs:
            known[id(symbol)] = self.operation(symbol._keras_history.operation).output
        for node in _ordered_nodes(model):
            self.replay(node, known)
        inputs = keras.tree.map_structure(lambda symbol: known[id(symbol)], model._inputs_struct)
        outputs = keras.tree.map_structure(lambda symbol: known[id(symbol)], model._outputs_struct)
        return keras.Model(inputs, outputs, name=model.name)

    def replay(self, node, known, **further):
        operation = self.operation(node.operation)
        args, kwargs = self._edit_arguments(
            node.operation, node.arguments.args, {**node.arguments.kwargs, **further}
        )

        def fill(value):
            symbolic = isinstance(value, keras.KerasTensor)
            return known[self._identify(value)] if symbolic else value

        args, kwargs = keras.tree.map_structure(fill, (args, kwargs))
        outputs = keras.tree.flatten(operation(*args, **kwargs))
        known.update((id(s), t) for s, t in zip(node.outputs, outputs, strict=True))


class TraceError(Exception):
    """A layer's `call` doesn't run on symbolic tensors.

    Attributes:
        layer: The layer.
        reason: What it said, in one line.
    """

    def __init__(self, layer: keras.Layer, reason: str):
        super().__init__(reason)
        self.layer, self.reason = layer, reason


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """The calls that a layer is made of.

    Attributes:
        inputs, outputs: The symbolic tensors, in the structures that the layer takes and returns.
        nodes: The calls, each behind those that it needs.
        aliases: Which tensor a tensor stands for that came out of an opened layer, or an input
            with the batch filled in, by its `id`, with the tensor itself.
    """

    inputs: Any
    outputs: Any
    nodes: tuple
    aliases: dict[int, tuple[keras.KerasTensor, keras.KerasTensor]]

    @property
    def operations(self) -> list[keras.Operation]:
        """What is called, each once, in order."""
        return list({id(node.operation): node.operation for node in self.nodes}.values())

    @property
    def constants(self) -> list[tuple[keras.Operation, Any]]:
        """Operations with what they are called with beside symbolic tensors."""
        return [
            (node.operation, value)
            for node in self.nodes
            for value in keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
            if not isinstance(value, keras.KerasTensor)
        ]

    def identify(self, tensor: keras.KerasTensor) -> int:
        """The `id` of the tensor that `tensor` stands for."""
        while id(tensor) in self.aliases:
            tensor = self.aliases[id(tensor)][1]
        return id(tensor)


def trace(
    layer: keras.Layer, inputs: Any, opened: Sequence[keras.Layer], batch: int | None = None
) -> Trace:
    """Records what a layer calls on symbolic inputs. The layer stays as it was.

    Args:
        layer: A built layer, usually a subclassed model.
        inputs: Tensors made by `keras.Input`, in the structure that the layer takes.
        opened: Layers inside it whose calls are recorded in place of one call of themselves.
        batch: The size of the batch that the layer sees where `inputs` leave it open; None to
            leave it so.

    Raises:
        TraceError: If the `call` of `layer` or of an opened one doesn't run on such tensors.
    """
    aliases: dict = {}
    failures: list[TraceError] = []

    def with_batch(symbol):
        if batch is None or symbol.shape[0] is not None:
            return symbol
        shape = (batch, *symbol.shape[1:])
        twin = keras.Input(batch_shape=shape, dtype=symbol.dtype, name=symbol.name)
        aliases[id(twin)] = (twin, symbol)
        return twin

    given = keras.tree.map_structure(with_batch, inputs)
    looked_into = {id(part) for part in (layer, *opened)}
    with _undisturbed(layer), contextlib.ExitStack() as stack:
        for part in all_layers(layer):
            if id(part) in looked_into:
                stack.enter_context(_opened(part, aliases, failures))
            elif part.variables:
                stack.enter_context(_recorded_on_constants(part, keras.tree.flatten(given)))
        try:
            outputs = layer(given)
        except Exception as error:  # whatever the user's code or Keras says
            raise failures[0] if failures else TraceError(layer, _first_line(error)) from error
        found = Trace(inputs, outputs, (), aliases)
        return dataclasses.replace(found, nodes=tuple(_nodes_behind(found, layer)))


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextlib.contextmanager
def _undisturbed(layer: keras.Layer) -> Iterator[None]:
    """Gives all operations inside a layer their call histories back, and builds none of them."""
    parts = all_layers(layer)
    cores = [core for core in map(functional_core, parts) if core is not None]
    operations = [*parts, *(operation for core in cores for operation in core.operations)]
    before = [
        (vars(operation), list(vars(operation)["_inbound_nodes"]),
         list(vars(operation)["_outbound_nodes"]))
        for operation in operations
    ]  # fmt: skip
    unbuilt = [part for part in parts if not part.built]
    for part in unbuilt:
        vars(part)["_maybe_build"] = _refuse_to_build(part)
    try:
        yield
    finally:
        for own, inbound, outbound in before:
            own["_inbound_nodes"], own["_outbound_nodes"] = inbound, outbound
        for part in unbuilt:
            del vars(part)["_maybe_build"]


def _refuse_to_build(part: keras.Layer) -> Callable:
    def refuse(call_spec):
        raise ValueError(f"layer '{part.name}' isn't built yet; call the model once on data")

    return refuse


@contextlib.contextmanager
def _opened(part: keras.Layer, aliases: dict, failures: list) -> Iterator[None]:
    """Lets a symbolic call of a layer run its `call`, `training` left open where it isn't set.

    Keras itself adds a node for the layer to what the call returns; so that the nodes inside stay
    in sight, it gets aliases.
    """
    signature = vars(part)["_call_signature"]
    parameters = signature.parameters.values()
    takes_training = "training" in signature.parameters

    def alias(tensor):
        twin = keras.KerasTensor(tensor.shape, tensor.dtype, name=tensor.name)
        twin._keras_mask = getattr(tensor, "_keras_mask", None)
        aliases[id(twin)] = (twin, tensor)
        return twin

    def symbolic_call(*args, **kwargs):
        if takes_training:
            kwargs.setdefault("training", None)
        try:
            outputs = part.call(*args, **kwargs)
            flat = keras.tree.flatten(outputs)
            if not flat or not all(isinstance(one, keras.KerasTensor) for one in flat):
                raise ValueError("its `call` returns something other than what its layers make")
            return keras.tree.map_structure(alias, outputs)
        except Exception as error:
            failures.append(TraceError(part, _first_line(error)))
            raise

    vars(part)["_call_signature"] = signature.replace(
        parameters=[
            one.replace(default=None)
            if one.name == "training" and one.default is not inspect.Parameter.empty
            else one
            for one in parameters
        ]
    )
    vars(part)["symbolic_call"] = symbolic_call
    try:
        yield
    finally:
        vars(part)["_call_signature"] = signature
        del vars(part)["symbolic_call"]


@contextlib.contextmanager
def _recorded_on_constants(part: keras.Layer, symbols: list[keras.KerasTensor]) -> Iterator[None]:
    """Makes calls of a layer on constants alone, an Embedding on positions, symbolic too.

    Else Keras would run them at once, and what the layer's weights make of them were a constant.
    """
    symbols = [symbol for symbol in symbols if symbol.dtype != "string"]
    call, own = part.call, vars(part).get("call")

    def symbolic(value):
        zero = keras.ops.sum(keras.ops.zeros_like(symbols[0]))
        return keras.ops.add(value, keras.ops.cast(zero, value.dtype))

    def call_on_constants(*args, **kwargs):
        # not where Keras runs it in a graph of its own, to infer the shape of some output
        if args and symbols and tf.executing_eagerly():
            return part(keras.tree.map_structure(symbolic, args[0]), *args[1:], **kwargs)
        return call(*args, **kwargs)

    vars(part)["call"] = call_on_constants
    try:
        yield
    finally:
        del vars(part)["call"]
        if own is not None:
            vars(part)["call"] = own


def _nodes_behind(found: Trace, layer: keras.Layer) -> list:
    """The calls that the outputs of a trace come from, each behind those that it needs."""
    symbols = {id(symbol) for symbol in keras.tree.flatten(found.inputs)}

    def node_of(tensor):
        while id(tensor) in found.aliases:
            tensor = found.aliases[id(tensor)][1]
        if id(tensor) in symbols:
            return None
        history = tensor._keras_history
        node = vars(history.operation)["_inbound_nodes"][history.node_index]
        if node.is_input:
            raise TraceError(layer, "it depends on a symbolic tensor that is none of its inputs")
        return node

    ordered, done = [], {id(None)}
    pending = [node_of(tensor) for tensor in keras.tree.flatten(found.outputs)][::-1]
    while pending:
        node = pending[-1]
        if id(node) in done:
            pending.pop()
            continue
        masks = keras.tree.flatten(list(_attached_masks(node).values()))
        tensors = [*node.input_tensors, *(mask for mask in masks if mask is not None)]
        needed = [one for one in map(node_of, tensors) if id(one) not in done]
        if needed:
            pending += needed[::-1]
        else:
            done.add(id(node))
            ordered.append(node)
    return ordered


def _attached_masks(node) -> dict[str, Any]:
    """The masks that came with a call's tensors, as the arguments that Keras makes of them.

    An opened layer attached them, perhaps, to what it returned; nothing else would do so again.
    """
    if not isinstance(node.operation, keras.Layer):
        return {}
    signature = vars(node.operation)["_call_signature"]
    given = signature.bind_partial(*node.arguments.args, **node.arguments.kwargs).arguments
    tensors = {name: value for name, value in given.items() if _holds_tensors(value)}
    found = {}
    for name, value in tensors.items():
        argument = "mask" if len(tensors) == 1 else f"{name}_mask"
        masks = keras.tree.map_structure(lambda one: getattr(one, "_keras_mask", None), value)
        attached = any(isinstance(one, keras.KerasTensor) for one in keras.tree.flatten(masks))
        if attached and argument in signature.parameters and given.get(argument) is None:
            found[argument] = masks
    return found


def _holds_tensors(value: Any) -> bool:
    flat = keras.tree.flatten(value)
    return bool(flat) and all(isinstance(one, keras.KerasTensor) for one in flat)


def model_of(
    found: Trace,
    remake: Callable[[keras.Operation], keras.Operation],
    names: Mapping[int, str],
    name: str,
) -> tuple[keras.Model, list[tuple[keras.Operation, keras.Operation]]]:
    """Builds a functional model that makes the calls of a trace.

    Args:
        found: What `trace` returned.
        remake: As for `copy_model`.
        names: A name for each operation, by its `id`, among which none occurs twice.
        name: Name of the model.

    Returns:
        The model, and pairs of each operation with its new one, models before what is in them.
    """
    copier = _Copier(remake, _as_they_are, found.identify)
    known = {}
    for symbol in keras.tree.flatten(found.inputs):
        known[id(symbol)] = copier.operation(symbol._keras_history.operation).output
    for node in found.nodes:
        copier.operation(node.operation).name = names[id(node.operation)]
        copier.replay(node, known, **_attached_masks(node))
    inputs = keras.tree.map_structure(lambda symbol: known[id(symbol)], found.inputs)
    outputs = keras.tree.map_structure(lambda symbol: known[found.identify(symbol)], found.outputs)
    return keras.Model(inputs, outputs, name=name), _models_first(copier.pairs)


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """What `model.compile` was called with, as the objects themselves; empty if it wasn't."""
    return dict(model._compile_config.config) if model.compiled else {}


def optimizer_slots(
    optimizer: keras.optimizers.Optimizer,
) -> tuple[list[keras.Variable], dict[str, list]]:
    """The variables that an optimizer trains, and its slots for them.

    Returns:
        The trained variables, and for each attribute that holds one slot for each of them
        (momenta, moving averages, accumulated gradients) the list, by the attribute's name.
    """
    trained = list(optimizer._trainable_variables)
    slots = {
        name: list(value)
        for name, value in vars(optimizer).items()
        if isinstance(value, list) and name != "_trainable_variables"
        and len(value) == len(trained)
        and any(isinstance(slot, keras.Variable) for slot in value)
        and name not in ("_variables",)
    }  # fmt: skip
    return trained, slots


def is_decayed(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Whether `optimizer.exclude_from_weight_decay` leaves the weight decay of `variable` on."""
    return optimizer._use_weight_decay(variable)
