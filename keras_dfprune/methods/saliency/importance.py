"""Compute the importance of units from their outgoing weights, and update it when units merge."""

import math

import numpy as np

from keras_dfprune.methods.base import GroupView


class Importance:
    """Importance of each unit: `<a_j^2>` of its outgoing weights, times `alpha_j` squared.

    Args:
        group: The group.
        aggregate: `"mean"` or `"max"`: how the outputs are aggregated. Positions are summed.
        alpha: Float64 array, shape `(units,)`: norms that the outgoing weights are multiplied by,
            or ones.

    Attributes:
        values: Float64 array, shape `(units,)`.
        alpha: As given.
    """

    def __init__(self, group: GroupView, aggregate: str, alpha: np.ndarray):
        self._outgoing = group.outgoing
        self._outputs = group.outputs()
        self._aggregate = aggregate
        self.alpha = alpha
        self._merged: dict[int, np.ndarray] = {}  # rows of units that have taken over others
        self.values = np.square(alpha) * self._of_all_units()

    def merge(self, unit: int, survivor: int, scale: float) -> None:
        """Add `scale` times the outgoing weights of a removed unit to those of its survivor.

        Outgoing weights include `alpha` here, so that `scale` is 1 for the paper's merge.
        """
        row, removed = self._row(survivor), self._row(unit)
        removed *= scale  # in place: the row of a removed unit is not needed again
        row += removed
        self._merged[survivor] = row
        self._merged.pop(unit, None)
        self.values[survivor] = self._of_row(row)

    def _row(self, unit: int) -> np.ndarray:
        """Return all outgoing weights of a unit times `alpha`, as one float64 vector."""
        if unit in self._merged:
            return self._merged[unit]
        parts = [block[unit].ravel() for block in self._outgoing]
        row = np.concatenate(parts, dtype=np.float64)
        row *= self.alpha[unit]
        return row

    def _of_row(self, row: np.ndarray) -> float:
        if self._aggregate == "mean":
            return float(np.vdot(row, row)) / self._outputs
        shapes = [block.shape[1:] for block in self._outgoing]
        parts = np.split(np.square(row), np.cumsum([math.prod(shape) for shape in shapes])[:-1])
        sums = [part.reshape(shape).sum(axis=0) for part, shape in zip(parts, shapes, strict=True)]
        return max(float(outputs.max()) for outputs in sums)

    def _of_all_units(self) -> np.ndarray:
        if self._aggregate == "mean":
            rows = [block.reshape(len(block), -1) for block in self._outgoing]
            squares = [np.einsum("ij,ij->i", row, row, dtype=np.float64) for row in rows]
            return np.sum(squares, axis=0) / self._outputs
        squares = [np.square(block, dtype=np.float64) for block in self._outgoing]
        return np.max([block.sum(axis=1).max(axis=1) for block in squares], axis=0)
