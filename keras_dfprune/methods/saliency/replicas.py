"""Compute tiles on the replicas of a distribution strategy, in rounds.

In each round every replica computes one tile. The results are gathered, so that every worker goes
on with the same values.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import tensorflow as tf

from keras_dfprune.methods.full_precision import full_precision
from keras_dfprune.methods.saliency.blocks import Block

TileFunction = Callable[[Block, Block], tf.Tensor]


def over_replicas(
    function: TileFunction,
    pairs: Iterable[tuple[Block, Block]],
    strategy: tf.distribute.Strategy | None,
) -> Iterator[tf.Tensor]:
    """Yield the tile of each pair of blocks, in their order.

    Args:
        function: Function from two blocks to a tile, which runs in eager mode and in a graph.
        pairs: The pairs.
        strategy: The strategy whose replicas share the pairs, or None for this device alone.
    """
    if strategy is None:
        for first, second in pairs:
            yield function(first, second)
        return
    replicas = strategy.num_replicas_in_sync
    for _, same_shapes in itertools.groupby(pairs, _shapes):
        rounds = _Rounds(function, strategy)  # traced once for each shape
        while share := list(itertools.islice(same_shapes, replicas)):
            padded = share + share[-1:] * (replicas - len(share))
            yield from rounds.run(padded)[: len(share)]


def _shapes(pair: tuple[Block, Block]) -> list[tf.TensorShape]:
    return [tensor.shape for tensor in tf.nest.flatten(pair)]


class _Rounds:
    """Function that is traced as one graph and computes one tile on every replica.

    Args:
        function: Function from two blocks to a tile.
        strategy: The strategy.
    """

    def __init__(self, function: TileFunction, strategy: tf.distribute.Strategy):
        self._function, self._strategy = function, strategy
        # A new partial for each instance: TensorFlow warns of one function traced again and again.
        on_replicas = functools.partial(strategy.run, self._on_replica)
        self._graph = tf.function(on_replicas, autograph=False)

    def run(self, pairs: Sequence[tuple[Block, Block]]) -> list[tf.Tensor]:
        """Compute the tiles of one pair for each replica."""
        first, second = (self._distribute(blocks) for blocks in zip(*pairs, strict=True))
        with full_precision(), _without_graph_optimization():  # both count when the graph runs
            tiles = self._graph(args=(first, second))
        return tf.unstack(self._strategy.experimental_local_results(tiles)[0])

    def _distribute(self, blocks: Sequence[Block]) -> Block:
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: blocks[context.replica_id_in_sync_group]
        )

    def _on_replica(self, first: Block, second: Block) -> tf.Tensor:
        tile = self._function(first, second)
        return tf.distribute.get_replica_context().all_gather(tile[None], axis=0)


@contextlib.contextmanager
def _without_graph_optimization() -> Iterator[None]:
    """Keep TensorFlow from rearranging a graph, whose sums would be rounded unlike eager ones."""
    option = "disable_meta_optimizer"
    before = tf.config.optimizer.get_experimental_options().get(option)
    tf.config.optimizer.set_experimental_options({option: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({option: before})  # None: not set
