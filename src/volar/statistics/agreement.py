"""Do two judges say the same more often than chance? Cohen's kappa (1960), without weights."""

from collections import Counter
from collections.abc import Sequence


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """1 for perfect agreement, 0 for that of two judges who guess with their own frequencies. None when there is
    nothing to judge, or when both always give the same one answer, so that chance explains everything.

    >>> cohen_kappa(["a", "a", "b", "b"], ["a", "a", "b", "a"])
    0.5
    """
    if len(first) != len(second):
        raise ValueError(f"Both judges must judge the same cases, got {len(first)} and {len(second)}.")
    n = len(first)
    if not n:
        return None
    ours, theirs = Counter(first), Counter(second)
    chance = sum(ours[answer] * theirs[answer] for answer in ours) / n**2
    if chance == 1:
        return None
    return (sum(one == two for one, two in zip(first, second, strict=True)) / n - chance) / (1 - chance)
