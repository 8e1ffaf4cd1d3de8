"""Two arms on different scenes: exact test, interval of one comparison, and interval and test over many tasks.

Barnard's exact test (1945; SciPy 1.17 misses the worst common rate in one table of twelve), Newcombe's interval (1998,
method 10 for independent rates), Mee's (1984) stratified with every task weighing the same. On the same scenes
paired.py needs fewer of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from scipy.special import gammaln, xlogy
from scipy.stats import norm

from volar.statistics.intervals import Interval, score_interval, score_z, wilson

NUISANCE_RATES = 500  # common rates tried, evenly spaced in arcsine, before the best is refined
TIES = 1e-7  # successes; tables as extreme as the one seen count as extreme


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Successes of the two arms on one task."""

    first: int
    first_episodes: int
    second: int
    second_episodes: int


def newcombe(
    first: int, first_episodes: int, second: int, second_episodes: int, *, confidence: float = 0.95
) -> Interval:
    """First success rate minus the second, from their Wilson intervals."""
    one = wilson(first, first_episodes, confidence=confidence)
    two = wilson(second, second_episodes, confidence=confidence)
    estimate = one.estimate - two.estimate
    return Interval(
        estimate=estimate,
        low=estimate - math.hypot(one.estimate - one.low, two.high - two.estimate),
        high=estimate + math.hypot(one.high - one.estimate, two.estimate - two.low),
    )


def barnard(first: int, first_episodes: int, second: int, second_episodes: int) -> float:
    """Two-sided exact p-value of "equal success rates" on different scenes: the largest chance, over all common rates,
    of a pooled z as large as the one seen. ValueError when the counts do not fit."""
    if not (0 <= first <= first_episodes > 0 and 0 <= second <= second_episodes > 0):
        raise ValueError(
            f"Successes must lie in 0..episodes, got {first}/{first_episodes} and {second}/{second_episodes}."
        )
    pooled = (first + second) / (first_episodes + second_episodes)
    difference = abs(first / first_episodes - second / second_episodes)
    if not difference:
        return 1.0
    z = difference / math.sqrt(pooled * (1 - pooled) * (1 / first_episodes + 1 / second_episodes))
    return largest_chance(z, first_episodes, second_episodes)


def largest_chance(z: float, first_episodes: int, second_episodes: int) -> float:
    """The largest chance of a pooled |z| of at least z > 0 when both arms have the same success rate."""

    def chance(angles: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        rates = np.sin(angles) ** 2
        return sample_space(first_episodes, second_episodes, rates, rates).beyond(z)

    angles = np.linspace(0, np.pi / 2, NUISANCE_RATES)
    chances = chance(angles)
    best = int(np.argmax(chances))
    around = (angles[max(best - 1, 0)], angles[min(best + 1, len(angles) - 1)])
    found = minimize_scalar(lambda angle: -chance(np.array([angle]))[0], bounds=around, method="bounded")
    return float(min(1.0, max(-found.fun, chances[best])))


@dataclass(frozen=True, kw_only=True)
class SampleSpace:
    """Binomial chances of both arms for k pairs of true rates. first[i]: of i; at_most[i]: of fewer than i."""

    first: Float[np.ndarray, "i k"]
    at_most: Float[np.ndarray, "j k"]

    def beyond(self, z: float) -> Float[np.ndarray, " k"]:
        """Chance of a pooled |z| of at least z > 0, exactly.

        (p1 - p2)^2 >= z^2 (1/n1 + 1/n2) p (1 - p), with p the pooled rate, is a quadratic in the second arm's
        successes: for each count of the first arm those outside its two roots are summed.
        """
        n1, n2 = len(self.first) - 1, len(self.at_most) - 2
        rate, k = np.arange(n1 + 1) / n1, z**2 * (1 / n1 + 1 / n2)
        ours, theirs = n1 / (n1 + n2), n2 / (n1 + n2)
        square = 1 + k * theirs**2
        linear = -2 * rate + k * theirs * (2 * ours * rate - 1)
        constant = rate**2 + k * ours * rate * (ours * rate - 1)
        root = np.sqrt(np.maximum(linear**2 - 4 * square * constant, 0.0))
        below = np.floor((-linear - root) / (2 * square) * n2 + TIES).astype(int)  # so few successes count
        above = np.ceil((-linear + root) / (2 * square) * n2 - TIES).astype(int)
        below[0], above[-1] = -1, n2 + 1  # no success at all and nothing but successes: z = 0 / 0, no difference
        few = self.at_most[np.clip(below + 1, 0, n2 + 1)]
        many = self.at_most[-1] - self.at_most[np.clip(above, 0, n2 + 1)]
        return (self.first * (few + many)).sum(0)


def sample_space(
    first_episodes: int,
    second_episodes: int,
    first_rates: Float[np.ndarray, " k"],
    second_rates: Float[np.ndarray, " k"],
) -> SampleSpace:
    """For many z on the same numbers of episodes."""
    second = _binomial(second_episodes, second_rates).cumsum(0)
    at_most = np.concatenate([np.zeros((1, len(second_rates))), second])
    return SampleSpace(first=_binomial(first_episodes, first_rates), at_most=at_most)


def unpaired_difference(tasks: Sequence[Counts], *, confidence: float = 0.95) -> Interval:
    """First arm's success rate minus the second's on different scenes, as the mean over tasks. One task: Mee."""
    counts, weights = _strata(tasks)
    return score_interval(counts, np.array([0.0, 1.0]), weights, confidence=confidence)


def unpaired_p(tasks: Sequence[Counts]) -> float:
    """Two-sided score test of "the mean over tasks of the difference is zero" (for one task the pooled z-test)."""
    counts, weights = _strata(tasks)
    return float(2 * norm.sf(abs(score_z(counts, np.array([0.0, 1.0]), weights))))


def _strata(tasks: Sequence[Counts]) -> tuple[Float[np.ndarray, "strata 2"], Float[np.ndarray, " strata"]]:
    rows = [
        row
        for task in tasks
        for row in (
            (task.first_episodes - task.first, task.first),
            (task.second_episodes - task.second, task.second),
        )
    ]
    counts = np.array(rows, dtype=float).reshape(-1, 2)
    if (counts < 0).any():
        raise ValueError(f"Successes must lie in 0..episodes, got {list(tasks)}.")
    return counts, np.tile([1.0, -1.0], len(tasks)) / max(len(tasks), 1)


def _binomial(episodes: int, rates: Float[np.ndarray, " k"]) -> Float[np.ndarray, "i k"]:
    """As scipy.stats.binom.pmf, for all counts and without its overhead per number."""
    counts = np.arange(episodes + 1)
    ways = gammaln(episodes + 1) - gammaln(counts + 1) - gammaln(episodes - counts + 1)
    won = xlogy(counts[:, None], rates[None])
    return np.exp(ways[:, None] + won + xlogy((episodes - counts)[:, None], 1 - rates[None]))
