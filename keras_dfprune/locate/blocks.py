"""Find the blocks of a group whose layers split their channels into groups.

A convolution in G groups keeps G, so each of its groups must lose equally many filters, and equally
many of the channels that it reads. Filters of different groups read different channels, and the
rows of different channels meet different outputs.
"""

from collections.abc import Sequence

import numpy as np

from keras_dfprune.locate.followed_units import FollowedUnits, title
from keras_dfprune.locate.groups import Inlet, ProducerFeatures
from keras_dfprune.rules.base import Barrier


def find_blocks(
    followed: FollowedUnits,
    producers: Sequence[ProducerFeatures],
    inlets: Sequence[Inlet],
    units: int,
) -> np.ndarray:
    """Split the units of a group into the largest blocks that lie in one group of every layer.

    Args:
        followed: The units of the graph.
        producers: The group's producers.
        inlets: The group's inlets.
        units: Number of units.

    Returns:
        Int array, shape `(units,)`: the block of each unit, from 0 on. All blocks are of one size.

    Raises:
        Barrier: If blocks that lose equally many units don't leave the layers' groups equal. The
            message is the reason.
    """
    splits = {}
    for producer in producers:
        groups = producer.rule.channel_groups(producer.call.operation)
        if groups > 1:
            splits[title(producer.call)] = np.arange(units) // (units // groups)
    for inlet in inlets:
        groups = inlet.rule.channel_groups(inlet.call.operation)
        if groups > 1:
            splits[title(inlet.call)] = _groups_read(
                inlet, followed.streams[inlet.call.inputs[0]].width // groups, groups
            )
    if not splits:
        return np.zeros(units, np.int64)
    groups_of_units = np.stack(list(splits.values()), axis=1)
    cells, blocks = np.unique(groups_of_units, axis=0, return_inverse=True)
    blocks = blocks.reshape(-1)
    layers = " and ".join(splits)
    if not all(map(_is_even, (blocks, *cells.T))):
        raise Barrier(f"the groups of channels of {layers} overlap")
    if len(cells) == units:
        raise Barrier(f"no two of its units are in one group of channels of {layers}")
    return blocks


def _groups_read(inlet: Inlet, channels: int, groups: int) -> np.ndarray:
    """Return the group of a consumer's channels in which each unit arrives.

    Args:
        inlet: The inlet.
        channels: Number of channels in each group.
        groups: Number of groups.

    Raises:
        Barrier: If a unit arrives in several, or some get more units than others.
    """
    by_position = inlet.columns // channels
    read = by_position[:, 0]
    if np.any(by_position != read[:, None]):
        raise Barrier(
            f"it feeds {title(inlet.call)}, which reads positions of one unit in several of its "
            "groups of channels"
        )
    if len(np.unique(read)) < groups or not _is_even(read):
        raise Barrier(
            f"it feeds {title(inlet.call)}, some of whose groups of channels get more of its units "
            "than others"
        )
    return read


def _is_even(labels: np.ndarray) -> bool:
    """Return whether all labels from 0 on occur equally often."""
    counts = np.bincount(labels)
    return bool(np.all(counts == counts[0]))
