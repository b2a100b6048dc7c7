"""A function of pairs of tiles over the replicas of a distribution strategy, in rounds.

Each round gives every replica one pair; what they return is gathered, so that every worker goes on
with the same values.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from keras_dfprune.methods.full_precision import full_precision


def over_replicas(
    function: Callable,
    pairs: Iterable[tuple[Any, Any]],
    strategy: tf.distribute.Strategy | None,
) -> Iterator[tf.Tensor]:
    """What a function returns for each pair of arguments, in their order.

    Args:
        function: From two nested structures of tensors to a tensor, in eager mode or in a graph.
        pairs: Its arguments; with a strategy all have the same structure.
        strategy: Whose replicas share the pairs, or None for this device alone.
    """
    if strategy is None:
        for first, second in pairs:
            yield function(first, second)
        return
    replicas = strategy.num_replicas_in_sync
    for _, alike in itertools.groupby(pairs, _shapes):
        shared = _Shared(function, strategy)  # each traces once
        while some := list(itertools.islice(alike, replicas)):
            padded = [*some, *[some[-1]] * (replicas - len(some))]
            yield from shared.round(padded)[: len(some)]


def _shapes(arguments: Any) -> list[tf.TensorShape]:
    return [tensor.shape for tensor in tf.nest.flatten(arguments)]


class _Shared:
    """A function on every replica at once, traced as one graph."""

    def __init__(self, function: Callable, strategy: tf.distribute.Strategy):
        self._function, self._strategy = function, strategy
        # each its own to TensorFlow, which warns of a lambda that is traced again and again
        run = functools.partial(strategy.run, self._on_replica)
        self._run = tf.function(run, autograph=False)

    def round(self, arguments: Sequence[tuple[Any, Any]]) -> list[tf.Tensor]:
        """The results for one pair of arguments on each replica."""
        first, second = (
            self._strategy.experimental_distribute_values_from_function(
                lambda context, side=side: arguments[context.replica_id_in_sync_group][side]
            )
            for side in range(2)
        )
        with full_precision(), _as_written():  # when the graph runs
            found = self._run(args=(first, second))
        return tf.unstack(self._strategy.experimental_local_results(found)[0])

    def _on_replica(self, first: Any, second: Any) -> tf.Tensor:
        found = self._function(first, second)
        return tf.distribute.get_replica_context().all_gather(found[None], axis=0)


@contextlib.contextmanager
def _as_written():
    """Keeps TensorFlow from rearranging graphs: sums would be rounded in another way than alone."""
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False, **before})
