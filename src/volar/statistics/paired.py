"""Two arms on the same scenes: exact tests of "no difference", an interval, and equivalence within a margin.

McNemar (1947), its mid-P form (Fagerland, Lydersen & Laake 2013), Newcombe's interval (1998, method 10), two one-sided
score tests (Schuirmann 1987; Liu et al. 2002). Tango's interval, over one task or many: intervals.paired_difference.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import binom, norm

from volar.statistics.intervals import (
    GAINS,
    Interval,
    Pairs,
    equal_weights,
    paired_counts,
    paired_difference,
    score_z,
    wilson,
)

WEIGHT_STEPS = 200  # integer weights reproduce the weight of each task to half a per cent


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """interval: of the difference at confidence 1 - 2 alpha, the one that must lie inside the margin; p: the larger of
    the two one-sided tests; equivalent: p <= alpha."""

    interval: Interval
    margin: float
    p: float
    equivalent: bool


def mcnemar_exact(pairs: Pairs) -> float:
    """Two-sided exact p-value of "each arm wins a discordant scene equally often". 1 without discordant scenes."""
    return mcnemar_stratified([pairs])


def mcnemar_mid_p(pairs: Pairs) -> float:
    """As mcnemar_exact, with half the probability of the observed table: rejects close to alpha instead of far below
    it, and exceeds alpha hardly ever (Fagerland et al. 2013)."""
    return mcnemar_stratified([pairs], mid=True)


def mcnemar_stratified(tasks: Sequence[Pairs], *, mid: bool = False) -> float:
    """Two-sided exact p-value of "no difference in any task", by convolving the tasks' binomial distributions.

    The statistic is the mean over tasks of the paired difference, so every task weighs the same however many scenes it
    has; with equal numbers of scenes this is McNemar's test on all pairs together (Mantel-Haenszel). Where tasks
    differ in opposite directions and the mean difference is zero, it rejects less often than alpha (many scenes).
    """
    sizes = np.array([pairs.total for pairs in tasks])
    if not len(sizes) or (sizes <= 0).any():
        raise ValueError(f"Every task needs at least one pair of scored episodes, got {sizes.tolist()}.")
    raw = [max(1, round(WEIGHT_STEPS * int(sizes.min()) / int(size))) for size in sizes]
    weights = [weight // math.gcd(*raw) for weight in raw]
    chances = np.ones(1)  # of the weighted count of the first arm's wins, 0, 1, 2 ...
    for weight in sorted(set(weights)):
        discordant = sum(
            pairs.first_only + pairs.second_only for pairs, own in zip(tasks, weights, strict=True) if own == weight
        )
        wins = np.zeros(weight * discordant + 1)
        wins[::weight] = binom.pmf(np.arange(discordant + 1), discordant, 0.5)
        chances = np.convolve(chances, wins)
    first = sum(weight * pairs.first_only for weight, pairs in zip(weights, tasks, strict=True))
    return _both_tails(chances, min(first, len(chances) - 1 - first), mid=mid)


def paired_z(tasks: Sequence[Pairs]) -> float:
    """Score statistic of "the mean over tasks of the paired difference is zero", standard normal for many discordant
    scenes; what a group-sequential boundary is compared with."""
    return score_z(paired_counts(tasks), GAINS, equal_weights(len(tasks)))


def newcombe_paired(pairs: Pairs, *, confidence: float = 0.95) -> Interval:
    """First arm's success rate minus the second's on the same scenes, from two Wilson intervals and the correlation
    of the outcomes (Newcombe 1998, method 10, with his correction of the correlation)."""
    n = pairs.total
    first, second = pairs.both + pairs.first_only, pairs.both + pairs.second_only
    one, two = wilson(first, n, confidence=confidence), wilson(second, n, confidence=confidence)
    margins = first * (n - first) * second * (n - second)
    product = pairs.both * pairs.neither - pairs.first_only * pairs.second_only
    if product > 0:
        product = max(product - n / 2, 0)
    phi = product / math.sqrt(margins) if margins else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a**2 - 2 * phi * a * b + b**2, 0.0))

    estimate = (first - second) / n
    low = estimate - reach(one.estimate - one.low, two.high - two.estimate)
    high = estimate + reach(one.high - one.estimate, two.estimate - two.low)
    return Interval(estimate=estimate, low=low, high=high)


def equivalence_paired(tasks: Sequence[Pairs], *, margin: float, alpha: float = 0.05) -> Equivalence:
    """Is the mean over tasks of the paired difference inside (-margin, margin)? Two one-sided score tests at alpha.

    margin: in units of the rate (0.05 = five points). It must have been chosen before the data. ValueError when margin
    is not inside (0, 1).
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin must lie between 0 and 1 (0.05 = five points), got {margin:g}.")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must lie between 0 and 0.5, got {alpha:g}.")
    counts, weights = paired_counts(tasks), equal_weights(len(tasks))
    above = norm.sf(score_z(counts, GAINS, weights, null=-margin))
    below = norm.cdf(score_z(counts, GAINS, weights, null=margin))
    p = float(max(above, below))
    return Equivalence(
        interval=paired_difference(tasks, confidence=1 - 2 * alpha), margin=margin, p=p, equivalent=p <= alpha
    )


def _both_tails(chances: Float[np.ndarray, " k"], tail: int, *, mid: bool) -> float:
    """P(as far from the centre as `tail`, or farther) of a symmetric distribution over 0..k-1; tail: the lower one."""
    if len(chances) == 1:  # nothing tells the arms apart
        return 1.0
    observed = float(chances[tail]) * (1 if 2 * tail == len(chances) - 1 else 2)
    outside = 2 * float(chances[:tail].sum())
    return min(1.0, outside + (observed / 2 if mid else observed))
