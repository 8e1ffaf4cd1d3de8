"""Many comparisons at once: Holm's adjustment (1979), compact letters (Piepho 2004), Bradley-Terry strengths (1952).

The strengths are Firth's bias-reduced ones (1993; Kosmidis & Firth 2009): finite even for an arm that never lost.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse.csgraph import connected_components
from scipy.stats import norm


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Log-strengths with mean zero: P(i beats j) = 1 / (1 + exp(strength_j - strength_i)). low, high: Wald limits of
    each strength's distance from the mean of all arms."""

    strength: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values in the order given: rejecting those <= alpha keeps the chance of any false rejection in the
    family at alpha, whatever their dependence. ValueError for a value outside [0, 1]."""
    values = np.asarray(p, dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values lie in [0, 1], got {list(p)}.")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return tuple(np.minimum(adjusted, 1.0).tolist())


def compact_letters(
    names: Sequence[str], means: Sequence[float], significant: Bool[np.ndarray, "k k"]
) -> Mapping[str, str]:
    """Letters per arm: two arms share one exactly when their difference is not significant. "a" goes to the best.

    Insert and absorb: every significant pair splits the columns that hold both; columns inside others vanish.
    significant: symmetric; the diagonal is ignored.
    """
    if not len(names) == len(means) == len(significant):
        raise ValueError(f"As many means and rows as names, got {len(names)}, {len(means)}, {len(significant)}.")
    if (significant != significant.T).any():
        raise ValueError("`significant` must be symmetric: it says for each pair whether their difference is.")
    columns = [frozenset(range(len(names)))]
    for i, j in zip(*np.nonzero(np.triu(significant, 1)), strict=True):
        split = [part for column in columns for part in _split(column, int(i), int(j))]
        columns = [one for one in set(split) if not any(one < other for other in split)]
    best_first = sorted(range(len(names)), key=lambda arm: -means[arm])
    rank = {arm: place for place, arm in enumerate(best_first)}
    columns.sort(key=lambda column: sorted(rank[arm] for arm in column))
    return {
        name: "".join(_letter(place) for place, column in enumerate(columns) if arm in column)
        for arm, name in enumerate(names)
    }


def bradley_terry(wins: Float[np.ndarray, "k k"], *, confidence: float = 0.95) -> Strengths:
    """wins[i, j]: how often arm i beat arm j; a draw may count half for each. For success on paired scenes a win is a
    scene that i solved and j did not.

    The limits take comparisons as independent; on scenes that all arms share they are approximate. ValueError when
    the arms fall into groups that never met.
    """
    if (wins < 0).any():
        raise ValueError("Wins cannot be negative.")
    games = wins + wins.T
    np.fill_diagonal(games, 0.0)
    groups, member = connected_components(games > 0, directed=False)
    if groups > 1:
        raise ValueError(f"Arms that never met cannot be ranked: they form {groups} groups, {member.tolist()}.")
    arms, theta = len(wins), np.zeros(len(wins))
    covariance = np.zeros_like(games)
    for _ in range(200):
        chance = 1 / (1 + np.exp(theta[None] - theta[:, None]))
        weight = games * chance * (1 - chance)
        covariance = np.linalg.pinv(np.diag(weight.sum(1)) - weight, hermitian=True)
        spread = np.diag(covariance)
        leverage = weight * (spread[:, None] + spread[None] - 2 * covariance)
        score = (wins * (games > 0) - games * chance + leverage * (0.5 - chance)).sum(1)
        step = covariance @ score
        theta = theta + step / max(1.0, float(np.abs(step).max(initial=0.0)))
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    reach = norm.ppf(0.5 + confidence / 2) * np.sqrt(np.maximum(np.diag(covariance), 0.0)) if arms else np.zeros(0)
    return Strengths(
        strength=tuple(theta.tolist()), low=tuple((theta - reach).tolist()), high=tuple((theta + reach).tolist())
    )


def _split(column: frozenset[int], i: int, j: int) -> list[frozenset[int]]:
    return [column - {i}, column - {j}] if i in column and j in column else [column]


def _letter(place: int) -> str:
    turn, index = divmod(place, 26)
    return string.ascii_lowercase[index] + "'" * turn
