"""Arithmetic of learned values for search: targets, balancing, scales among siblings, ensembles, and how well a value
tells siblings apart (V-VLAPS, arXiv 2601.00969). Functions of arrays; the network that learns is none of its business.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from volar.core.errors import ConfigError, unknown_name

SCALES = ("raw", "min_max", "z_score")


def returns(steps: int, *, success: bool, discount: float) -> Float64[np.ndarray, " t"]:
    """Target of every state of an episode: discount ** (T - t) where it ended in success at step T = steps, else 0.
    Row t is the state before action t."""
    if steps < 1 or not 0 < discount <= 1:
        raise ConfigError(f"Returns need at least 1 step and a discount in (0, 1], got {steps} and {discount}.")
    return discount ** np.arange(steps, 0, -1.0) if success else np.zeros(steps)


def balanced(
    targets: Float[np.ndarray, " n"], *, bins: int = 10, random: np.random.Generator
) -> Int64[np.ndarray, " m"]:
    """Rows to keep, ascending: of `bins` equal bins over [0, 1] the lowest is thinned to the sum of all others."""
    if bins < 2 or not (np.isfinite(targets).all() and (targets >= 0).all() and (targets <= 1).all()):
        raise ConfigError(f"Balancing needs at least 2 bins and targets in [0, 1]; got {bins} bins.")
    lowest = np.flatnonzero(targets < 1 / bins)
    others = np.flatnonzero(targets >= 1 / bins)
    kept = lowest if len(lowest) <= len(others) else random.choice(lowest, size=len(others), replace=False)
    return np.sort(np.concatenate([kept, others]))


def histogram_gauss(
    targets: Float[np.ndarray, " n"], *, bins: int = 51, deviation: float | None = None
) -> Float64[np.ndarray, "n k"]:
    """HL-Gauss: each target in [0, 1] as a Gaussian's mass in `bins` equal bins (arXiv 2403.03950). deviation: of the
    Gaussian; None is 0.75 bins. Rows sum to 1."""
    from scipy.special import ndtr

    if bins < 2 or not ((targets >= 0) & (targets <= 1)).all():
        raise ConfigError(f"HL-Gauss needs at least 2 bins and targets in [0, 1]; got {bins} bins.")
    spread = 0.75 / bins if deviation is None else deviation
    edges = np.linspace(0, 1, bins + 1)
    below = ndtr((edges[None] - targets[:, None]) / spread)
    return np.diff(below, axis=1) / (below[:, -1:] - below[:, :1])


def expected(masses: Float[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
    """The value that a distribution over equal bins of [0, 1] stands for."""
    centres = (np.arange(masses.shape[1]) + 0.5) / masses.shape[1]
    return masses.astype(np.float64) @ centres


def scaled(values: Float[np.ndarray, " n"], scale: str) -> Float64[np.ndarray, " n"]:
    """Values of siblings: as they are, from 0 to 1, or with mean 0 and deviation 1. Equal siblings give zeros in the
    latter two, since they say nothing about one another."""
    if scale not in SCALES:
        raise unknown_name("value scale", scale, SCALES)
    values = values.astype(np.float64)
    if scale == "raw" or len(values) == 0:
        return values
    spread = np.ptp(values) if scale == "min_max" else values.std()
    # Rounding of equal numbers must not be blown up to differences.
    if spread <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return np.zeros(len(values))
    return (values - (values.min() if scale == "min_max" else values.mean())) / spread


def upper_bound(ensemble: Float[np.ndarray, "e n"], *, weight: float) -> Float64[np.ndarray, " n"]:
    """Mean over the members of an ensemble plus `weight` standard deviations (with one member: its value)."""
    return ensemble.astype(np.float64).mean(0) + weight * ensemble.astype(np.float64).std(0)


def pairwise_loss(
    values: Float[np.ndarray, " n"], targets: Float[np.ndarray, " n"], groups: Int64[np.ndarray, " n"]
) -> float:
    """Mean of log(1 + exp(-(v_i - v_j))) over sibling pairs with target i > target j; siblings share a group.
    log 2 for values that say nothing. ConfigError where no group has two different targets."""
    better = _ordered_pairs(targets, groups)
    if not better.any():
        raise ConfigError("No two siblings have different targets, so there is nothing to rank.")
    apart = values.astype(np.float64)[:, None] - values.astype(np.float64)[None]
    return float(np.logaddexp(0.0, -apart)[better].mean())


def sibling_ranking(
    values: Float[np.ndarray, " n"], targets: Float[np.ndarray, " n"], groups: Int64[np.ndarray, " n"]
) -> float:
    """Share of sibling pairs with different targets that the values put in the right order, ties a half: 0.5 says
    nothing, 1 is perfect. One group for all rows gives the global figure. ConfigError where there is no such pair."""
    better = _ordered_pairs(targets, groups)
    if not better.any():
        raise ConfigError("No two siblings have different targets, so there is nothing to rank.")
    apart = np.sign(values.astype(np.float64)[:, None] - values.astype(np.float64)[None])
    return float(((apart + 1) / 2)[better].mean())


def _ordered_pairs(targets: np.ndarray, groups: np.ndarray) -> Bool[np.ndarray, "n n"]:
    return (groups[:, None] == groups[None]) & (targets[:, None] > targets[None])
