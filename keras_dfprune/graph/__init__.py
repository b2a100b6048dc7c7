"""A Keras model as a graph of calls, and new models out of the same walk.

| file | what it turns into what |
|---|---|
| `calls.py` | the values: a `Graph` of `Call`s between `Tensor`s |
| `reading.py` | a Sequential or Functional model into a graph |
| `copying.py` | a model into one that calls re-made operations in the same way |
| `tracing.py` | what a layer's `call` does into a trace, and a trace into a functional model |
| `opening.py` | layers made to show their calls to a trace |
| `private.py` | the private attributes of Keras; no other file touches any |
"""

from keras_dfprune.graph.calls import Call, Graph, Tensor, run_calls
from keras_dfprune.graph.copying import copy_model
from keras_dfprune.graph.opening import TraceError
from keras_dfprune.graph.private import (
    all_layers,
    compile_arguments,
    detached,
    functional_core,
    is_decayed,
    is_detached,
    optimizer_slots,
)
from keras_dfprune.graph.reading import read_graph
from keras_dfprune.graph.tracing import Trace, model_of, trace

__all__ = [
    "Call",
    "Graph",
    "Tensor",
    "Trace",
    "TraceError",
    "all_layers",
    "compile_arguments",
    "copy_model",
    "detached",
    "functional_core",
    "is_decayed",
    "is_detached",
    "model_of",
    "optimizer_slots",
    "read_graph",
    "run_calls",
    "trace",
]
