"""Prune single weights of a small network by Optimal Brain Damage and Optimal Brain Surgeon.

OBD (LeCun, Denker & Solla 1990) removes the weight with the smallest `h_qq w_q^2 / 2`. OBS
(Hassibi & Stork 1993) removes the weight with the smallest `w_q^2 / (2 [H^-1]_qq)`, and moves all
other weights by `-w_q / [H^-1]_qq * H^-1 e_q`. H is the Gauss-Newton Hessian of the training set's
cross-entropy.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

_RIDGE = 1e-4  # Hassibi & Stork start their recursion with 1e-8 to 1e-4
_CHUNK = 128  # images whose Jacobians are in memory at once


@dataclasses.dataclass(frozen=True, eq=False)
class SmallNet:
    """Network `softmax(relu(x @ kernel + bias) @ outgoing + offset)`, all weights in one vector.

    Attributes:
        sizes: Inputs, hidden units, outputs.
        weights: Float64 array of kernel, bias, outgoing and offset, each flat, in this order.
    """

    sizes: tuple[int, int, int]
    weights: np.ndarray

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray]) -> "SmallNet":
        """Make a network from the four arrays of a Keras model's `get_weights()`."""
        sizes = (*arrays[0].shape, arrays[2].shape[1])
        return cls(sizes, np.concatenate([np.ravel(a).astype(np.float64) for a in arrays]))

    def arrays(self) -> list[np.ndarray]:
        """Return kernel, bias, outgoing and offset."""
        inputs, hidden, outputs = self.sizes
        shapes = [(inputs, hidden), (hidden,), (hidden, outputs), (outputs,)]
        cuts = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
        parts = np.split(self.weights, cuts)
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Compute the logits, shape `(images, outputs)`."""
        kernel, bias, outgoing, offset = self.arrays()
        return np.maximum(x @ kernel + bias, 0.0) @ outgoing + offset

    def error(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the share of wrong answers, in percent."""
        return 100.0 * float(np.mean(np.argmax(self.logits(x), axis=1) != y))

    def factors(self, x: np.ndarray, active: np.ndarray) -> Iterator[np.ndarray]:
        """Yield matrices G with `H = sum(G^T G)`, one for each chunk of images.

        The cross-entropy's Hessian in the logits is `diag(p) - p p^T = R^T R` with
        `R = diag(sqrt p) - sqrt(p) p^T`; G is R times the Jacobian of the logits, over the square
        root of the number of images. Only the columns of the `active` weights are computed.
        """
        for start in range(0, len(x), _CHUNK):
            part = x[start : start + _CHUNK]
            logits = self.logits(part)
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            root = np.sqrt(p)
            factor = np.eye(p.shape[1]) * root[:, None, :] - root[:, :, None] * p[:, None, :]
            jacobian = self._jacobian(part)[:, :, active]
            yield (factor @ jacobian).reshape(-1, jacobian.shape[2]) / np.sqrt(len(x))

    def _jacobian(self, x: np.ndarray) -> np.ndarray:
        """Compute the Jacobian of the logits, shape `(images, outputs, weights)`."""
        kernel, bias, outgoing, _ = self.arrays()
        images, outputs = len(x), outgoing.shape[1]
        before = x @ kernel + bias
        into_bias = (before > 0)[:, None, :] * outgoing.T  # (images, outputs, hidden)
        into_kernel = x[:, None, :, None] * into_bias[:, :, None, :]
        hidden = np.maximum(before, 0.0)
        into_outgoing = hidden[:, None, :, None] * np.eye(outputs)[:, None, :]
        into_offset = np.broadcast_to(np.eye(outputs), (images, outputs, outputs))
        parts = (into_kernel, into_bias, into_outgoing, into_offset)
        return np.concatenate([part.reshape(images, outputs, -1) for part in parts], axis=2)


def brain_damage(net: SmallNet, x: np.ndarray, counts: Sequence[int]) -> list[SmallNet]:
    """Remove weights in the order of their OBD saliency, computed once.

    Args:
        net: The trained network.
        x: Training images, shape `(images, inputs)`.
        counts: Ascending numbers of weights to remove.

    Returns:
        The network after each number of removals in `counts`.
    """
    everything = np.arange(len(net.weights))
    diagonal = sum(np.square(factor).sum(axis=0) for factor in net.factors(x, everything))
    order = np.argsort(diagonal * np.square(net.weights) / 2, kind="stable")
    results = []
    for count in counts:
        weights = net.weights.copy()
        weights[order[:count]] = 0.0
        results.append(SmallNet(net.sizes, weights))
    return results


def brain_surgeon(
    net: SmallNet, x: np.ndarray, counts: Sequence[int], rounds: int = 10
) -> list[SmallNet]:
    """Remove weights by OBS, one after the other, each time with an update of all that remain.

    Args:
        net: The trained network.
        x: Training images.
        counts: Ascending numbers of weights to remove.
        rounds: How often the Hessian is computed, each time at the current weights. In between,
            its inverse is reduced to the remaining weights by a rank-1 downdate.

    Returns:
        The network after each number of removals in `counts`.
    """
    total, last = len(net.weights), max(counts)
    weights, active = net.weights.copy(), np.arange(total)
    inverse, snapshots = None, {0: net}
    for removed in range(last):
        if removed % -(-last // rounds) == 0:
            current = SmallNet(net.sizes, weights)
            hessian = sum(factor.T @ factor for factor in current.factors(x, active))
            inverse = np.linalg.inv(hessian + _RIDGE * np.eye(len(active)))
        diagonal = np.diag(inverse)
        q = int(np.argmin(np.square(weights[active]) / (2 * diagonal)))
        column = inverse[:, q]
        weights[active] -= weights[active[q]] / diagonal[q] * column
        weights[active[q]] = 0.0
        inverse = inverse - np.outer(column, column / diagonal[q])
        active = np.delete(active, q)
        inverse = np.delete(np.delete(inverse, q, axis=0), q, axis=1)
        if removed + 1 in counts:
            snapshots[removed + 1] = SmallNet(net.sizes, weights.copy())
    return [snapshots[count] for count in counts]
