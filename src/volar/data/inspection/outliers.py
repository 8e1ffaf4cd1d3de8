"""Arithmetic that several checks share: which few differ from the many, without trusting means."""

from typing import Final

import numpy as np
from jaxtyping import Bool, Float

SURELY: Final = 0.5  # cosine to the common direction below whose negative a vector counts as turned round


def deviations(values: Float[np.ndarray, " n"], floor: float) -> Float[np.ndarray, " n"]:
    """How many robust standard deviations each value lies from the median; floor: the least a deviation may be."""
    centre = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - centre))
    return (values - centre) / max(float(spread), floor)


def turned(vectors: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
    """Which few vectors point against the direction that all share up to sign. None unless most do share one."""
    lengths = np.linalg.norm(vectors, axis=1)
    nothing = np.zeros(len(vectors), np.bool_)
    if len(vectors) < 3 or not lengths.any():
        return nothing
    units = vectors / np.maximum(lengths, 1e-12)[:, None]
    direction = np.linalg.svd(units, full_matrices=False)[2][0]
    cosines = units @ direction
    if np.median(np.abs(cosines)) < SURELY:
        return nothing
    if (cosines > 0).sum() * 2 < len(cosines):
        cosines = -cosines
    return cosines < -SURELY
