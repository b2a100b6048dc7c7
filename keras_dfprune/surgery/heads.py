"""Show the heads of an attention layer to their method, and map their dimensions to fewer ones.

The inputs `x` have mean `m` and covariance `C`. What a head makes of them has the second moments of
`C^1/2 W` with the row `m W + b` below. That row is left out where the mean is a constant of the
outputs, and on the side of the keys, where it vanishes in the softmax.
"""

from collections.abc import Mapping

import numpy as np

from keras_dfprune.graph.calls import Tensor
from keras_dfprune.locate.head_groups import HeadGroup
from keras_dfprune.methods.heads import HeadFactors, HeadMerge, HeadView
from keras_dfprune.surgery.weights import LayerStates

Moments = tuple[np.ndarray, np.ndarray]  # mean and covariance

# What is assumed of the inputs counts as much as this many rows for each feature, as with units.
_PRIOR_ROWS = 0.5
# Share of the mean variance that every direction of the inputs has at least.
_FLOOR = 1e-6


def view_heads(
    group: HeadGroup, states: LayerStates, observed: Mapping[Tensor, Moments], rows: int
) -> HeadView:
    """Show the heads of an attention layer with its present weights.

    A squared singular value of queries and keys is the expected squared change of the scores. The
    outputs of a head change by about the same share of their variance, and each head counts by its
    share in the variance of all outputs.

    Args:
        group: The dimensions of one kind.
        states: The present weights.
        observed: Moments of the layer's inputs on rows, if there are any.
        rows: Number of the rows.
    """
    rule = group.rule
    plain, weighed, level = _factors(group, group.kind, states, observed, rows)
    if group.kind == rule.output_kind:
        energy = float(np.sum(np.square(weighed.values)))
        return HeadView(plain, weighed, level, np.ones(len(level)), energy or 1.0)
    outputs = _factors(group, rule.output_kind, states, observed, rows)[1]
    energies = np.sum(np.square(outputs.values), axis=1)
    shares = energies / (np.sum(energies) or 1.0) / group.units
    return HeadView(plain, weighed, level, shares, 1.0)


def _factors(
    group: HeadGroup, kind: str, states: LayerStates, observed: Mapping[Tensor, Moments], rows: int
) -> tuple[HeadFactors, HeadFactors, np.ndarray]:
    """Return the factors without and with what is known of the inputs, and the constant level."""
    rule = group.rule
    kernels = rule.head_kernels(states[group.path], kind)
    sources = [rule.sources(call, kind) for call in group.calls]
    left = [_moments(group, source, states, observed, rows) for source, _ in sources]
    mean, root = _mean_and_root(left)
    means = np.einsum("d,hdk->hk", mean, kernels.left) + kernels.bias
    plain, weighed = kernels.left, _weighed(root, kernels.left)
    level = np.zeros_like(means)
    if all(rule.keeps_mean(call, kind) for call in group.calls):
        level = means
    else:
        plain, weighed = _with_row(plain, kernels.bias), _with_row(weighed, means)
    right = kernels.right
    if sources[0][1] is not None:
        keys = [source for _, source in sources if source is not None]
        of_keys = [_moments(group, source, states, observed, rows) for source in keys]
        right = _weighed(_mean_and_root(of_keys)[1], right)
    return HeadFactors(plain, kernels.right), HeadFactors(weighed, right), level


def _moments(
    group: HeadGroup,
    source: Tensor,
    states: LayerStates,
    observed: Mapping[Tensor, Moments],
    rows: int,
) -> Moments:
    """Return mean and covariance of the remaining features of an input."""
    features = source.shape[-1] or 0
    scale, mean = group.known.get(source, (np.ones(features), np.zeros(features)))
    mean, covariance = mean.astype(np.float64), np.diag(np.square(scale.astype(np.float64)))
    if source in observed:
        seen_mean, seen = observed[source]
        share = _PRIOR_ROWS * features / (_PRIOR_ROWS * features + rows)
        assumed = np.trace(covariance) + mean @ mean
        factor = (np.trace(seen) + seen_mean @ seen_mean) / (assumed or 1.0)
        mean = (1.0 - share) * seen_mean + share * np.sqrt(factor) * mean
        covariance = (1.0 - share) * seen + share * factor * covariance
    remain = states.remaining_features(group.path)
    # Attention from one tensor to another keeps all features of both.
    if remain is not None and any(source is call.inputs[0] for call in group.calls):
        mean, covariance = mean[remain], covariance[np.ix_(remain, remain)]
    return mean, covariance


def _mean_and_root(moments: list[Moments]) -> Moments:
    """Return the mean, and a root `R` of the covariance `R^T R`, over all calls."""
    mean = np.mean([part for part, _ in moments], axis=0)
    covariance = np.mean([part for _, part in moments], axis=0)
    variance = np.trace(covariance) / len(covariance)
    floor = _FLOOR * variance if variance > 0.0 else 1.0
    return mean, np.linalg.cholesky(covariance + floor * np.eye(len(covariance))).T


def _weighed(root: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    return np.einsum("ed,hdk->hek", root, kernels, optimize=True)


def _with_row(kernels: np.ndarray, row: np.ndarray) -> np.ndarray:
    return np.concatenate([kernels, row[:, None]], axis=1)


def map_heads(group: HeadGroup, merge: HeadMerge, states: LayerStates) -> None:
    """Map the dimensions of each head to those that are kept, and record these.

    Args:
        group: The dimensions of one kind.
        merge: Their maps.
        states: The states to edit.
    """
    states.kept[group.name] = merge.kept
    if not len(merge.removed):
        return
    lost = merge.lost_level()
    state = group.rule.with_maps(states[group.path], group.kind, merge.into, merge.back, lost)
    states.edit(group.path, state)
