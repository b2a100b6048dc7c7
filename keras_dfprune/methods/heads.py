"""Make attention heads smaller: truncate the products of their matrices.

Only a product of two matrices matters in each head: of queries and keys the scores `W_Q W_K^T`, of
values and outputs `W_V W_O`. Let `P` be the left factor and `K` the right one, both weighed by the
deviations of the inputs. With the singular values `P K^T = U diag(s) V^T` the best product of rank
`r` is `U_r U_r^T P K^T`. It has the factors `P T` and `K S`, where

    T = K^T V_r diag(s_r)^-1/2,     S = P^T U_r diag(s_r)^-1/2.

`T` and `S` map the dimensions of a head to fewer ones. The squares of the singular values that are
left out add up to the expected squared change (after CLOVER, ICML 2025).
"""

import dataclasses
import functools

import numpy as np

from keras_dfprune.methods.base import Curve
from keras_dfprune.methods.merge import Removal

# Singular values below this share of a head's largest one count as zero: kernels are in float32.
_NEGLIGIBLE = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class HeadMerge(Removal):
    """Maps from the dimensions of each head to fewer ones.

    With the vectors `u` of one side of the product and `v` of the other, the heads get `u @ into`
    and `v @ back` instead. So `u @ v` becomes `u @ into @ back^T @ v`.

    Attributes:
        kept, removed: As in `Removal`. Dimension 0 is the one that matters most.
        into: Float64 array, shape `(heads, dimensions, kept)`: `T`.
        back: Float64 array of the same shape: `S`.
        level: Float64 array, shape `(heads, dimensions)`: the mean of `u`, which is kept exactly
            because it goes into a bias. Zero where there is none.
    """

    into: np.ndarray
    back: np.ndarray
    level: np.ndarray

    def lost_level(self) -> np.ndarray:
        """Return the part of the means that the maps lose: shape `(heads, dimensions)`."""
        kept = np.einsum("hk,hkr,hdr->hd", self.level, self.into, self.back)
        return self.level - kept


@dataclasses.dataclass(frozen=True, eq=False)
class HeadFactors:
    """Two factors of each head, whose product matters.

    Attributes:
        left: Float array, shape `(heads, rows, dimensions)`.
        right: Float array, shape `(heads, columns, dimensions)`.
    """

    left: np.ndarray
    right: np.ndarray

    @property
    def dimensions(self) -> int:
        """Number of dimensions of each head."""
        return self.left.shape[2]

    @functools.cached_property
    def _spectrum(self) -> tuple[np.ndarray, ...]:
        """Reduced factors, singular values and singular vectors of each head, float64."""
        left, right = (
            np.asarray(np.linalg.qr(factor.astype(np.float64), mode="r"))
            for factor in (self.left, self.right)
        )
        u, values, vt = np.linalg.svd(left @ right.transpose(0, 2, 1))
        full = np.zeros((len(values), self.dimensions))
        full[:, : values.shape[1]] = values
        return left, right, full, u, vt.transpose(0, 2, 1)

    @property
    def values(self) -> np.ndarray:
        """Singular values of the products: shape `(heads, dimensions)`, descending."""
        return self._spectrum[2]

    @property
    def negligible(self) -> np.ndarray:
        """True for singular values that are zero but for rounding: shape `(heads, dimensions)`."""
        return self.values <= _NEGLIGIBLE * self.values[:, :1]

    def maps(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `T` and `S` of a rank: shape `(heads, dimensions, rank)` each.

        Dimensions of singular value zero get zeros.
        """
        left, right, values, u, v = self._spectrum
        rank_here = min(rank, u.shape[2], v.shape[2])
        used = values[:, :rank_here]
        usable = used > 1e-9 * values[:, :1]
        factor = np.where(usable, 1.0 / np.sqrt(np.where(usable, used, 1.0)), 0.0)[:, None, :]
        into, back = np.zeros((2, len(values), self.dimensions, rank))
        into[:, :, :rank_here] = right.transpose(0, 2, 1) @ v[:, :, :rank_here] * factor
        back[:, :, :rank_here] = left.transpose(0, 2, 1) @ u[:, :, :rank_here] * factor
        return into, back


@dataclasses.dataclass(frozen=True, eq=False)
class HeadView:
    """Heads of an attention layer, as a method sees them.

    Attributes:
        plain: The factors without what is known of the inputs: they say which dimensions are zero.
        weighed: The factors weighed by the deviations of the inputs.
        level: Float array, shape `(heads, dimensions)`: the mean that goes into a bias.
        shares: Float array, shape `(heads,)`: by how much squared singular values are multiplied.
        scale: Positive number that the costs are divided by when groups are compared.
    """

    plain: HeadFactors
    weighed: HeadFactors
    level: np.ndarray
    shares: np.ndarray
    scale: float


def head_curve(view: HeadView) -> Curve:
    """Return the curve of the dimensions of an attention layer, the same number in each head.

    Args:
        view: The heads.
    """
    dimensions = view.plain.dimensions
    order = np.arange(dimensions - 1, 0, -1)
    zero = np.all(view.plain.negligible, axis=0)[order]
    lossless = len(order) if zero.all() else int(np.argmin(zero))
    costs = (view.shares @ np.square(view.weighed.values))[order]
    costs[:lossless] = 0.0

    def merge(count: int) -> HeadMerge:
        kept = dimensions - count
        factors = view.plain if count <= lossless else view.weighed
        into, back = factors.maps(kept)
        return HeadMerge(np.arange(kept), order[:count], into, back, view.level)

    return Curve(
        order=order,
        costs=costs,
        merge=merge,
        scale=view.scale,
        lossless=lossless,
        automatic=lossless,
    )
