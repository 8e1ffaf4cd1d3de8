"""Exact interval for one success rate (Clopper & Pearson 1934). Wilson's shorter, approximate one: intervals.py."""

from scipy.stats import beta

from volar.statistics.intervals import Interval


def clopper_pearson(successes: int, episodes: int, *, confidence: float = 0.95) -> Interval:
    """Covers at least `confidence` for every true rate and any number of episodes; usually more, so it is wider than
    Wilson's. ValueError when the counts do not fit."""
    if not 0 <= successes <= episodes or episodes == 0:
        raise ValueError(f"Successes must lie in 0..episodes and episodes be positive, got {successes} of {episodes}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}.")
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, successes, episodes - successes + 1) if successes else 0.0
    high = beta.ppf(1 - tail, successes + 1, episodes - successes) if successes < episodes else 1.0
    return Interval(estimate=successes / episodes, low=float(low), high=float(high))
