"""What two published success rates allow to say: over every pairing of episodes that the totals leave possible.

Papers give totals, not which scenes each policy solved. On shared scenes the totals bound McNemar's p-value from both
sides. Says nothing about training seeds, tuning, or whether the scenes were the same.
"""

from dataclasses import dataclass
from typing import Literal

from volar.statistics.intervals import Pairs
from volar.statistics.paired import mcnemar_exact
from volar.statistics.unpaired import barnard

Verdict = Literal["provably significant", "provably not", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """smallest_p, largest_p: two-sided exact p-values over everything that the totals (and their rounding) allow.

    favourable, unfavourable: the pairs that give them, None where only a test on different scenes was possible.
    """

    verdict: Verdict
    smallest_p: float
    largest_p: float
    favourable: Pairs | None
    unfavourable: Pairs | None


def what_follows(
    rate_a: float,
    n_a: int,
    rate_b: float,
    n_b: int,
    *,
    alpha: float = 0.05,
    paired: bool | None = None,
    decimals: int | None = None,
) -> Bounds:
    """rate_a, rate_b: success rates in [0, 1] of n_a and n_b episodes.

    paired: True when both met the same scenes, False when they did not, None when the source does not say (then both
    are possible, if n_a = n_b). decimals: to how many decimals the rates (as fractions: 0.984 has 3) were rounded;
    None: they are exact. ValueError when no whole number of successes gives the rate.
    """
    ours, theirs = _successes(rate_a, n_a, decimals), _successes(rate_b, n_b, decimals)
    if paired and n_a != n_b:
        raise ValueError(f"Paired episodes are equally many, got {n_a} and {n_b}.")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha:g}.")
    cases: list[tuple[float, Pairs | None]] = []
    for a in {ours[0], ours[-1]}:
        for b in {theirs[0], theirs[-1]}:
            if paired is not False and n_a == n_b:
                cases += [(mcnemar_exact(pairs), pairs) for pairs in _extremes(a, b, n_a)]
            if not paired:
                cases.append((barnard(a, n_a, b, n_b), None))
    if set(ours) & set(theirs) and n_a == n_b:  # rounding lets them be equal
        cases.append((1.0, None))
    best, worst = min(cases, key=lambda case: case[0]), max(cases, key=lambda case: case[0])
    verdict: Verdict = "inconclusive"
    if worst[0] <= alpha:
        verdict = "provably significant"
    elif best[0] > alpha:
        verdict = "provably not"
    return Bounds(verdict=verdict, smallest_p=best[0], largest_p=worst[0], favourable=best[1], unfavourable=worst[1])


def _extremes(a: int, b: int, n: int) -> list[Pairs]:
    """The pairings with most and with fewest scenes solved by both: McNemar's p-value is monotone in between."""
    return [
        Pairs(both=both, first_only=a - both, second_only=b - both, neither=n - a - b + both)
        for both in (min(a, b), max(0, a + b - n))
    ]


def _successes(rate: float, episodes: int, decimals: int | None) -> list[int]:
    """Every whole number of successes that rounds to the published rate."""
    if episodes < 1:
        raise ValueError(f"Episodes must be positive, got {episodes}.")
    reach = 1e-9 if decimals is None else 0.5 * 10.0**-decimals + 1e-9
    near = round(rate * episodes)
    width = int(reach * episodes) + 1
    found = [
        k for k in range(near - width, near + width + 1) if 0 <= k <= episodes and abs(k / episodes - rate) <= reach
    ]
    if not found:
        raise ValueError(
            f"No number of successes in {episodes} episodes gives a rate of {rate:g}; nearest: {near}/{episodes} = "
            f"{near / episodes:.4f}. Say to how many decimals it was rounded, or check the number of episodes."
        )
    return found
