"""Testing while the episodes come in: an anytime-valid test by betting, and group-sequential boundaries.

Betting: Waudby-Smith & Ramdas (2024, arXiv 2010.09686), with a mixture over fixed bets instead of one bet that learns:
fewer scenes where differences are small, slightly more where they are large (docs/statistics.md). Group design: Lan &
DeMets (1983).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.polynomial.legendre import leggauss
from scipy.optimize import root_scalar
from scipy.special import logsumexp, ndtr
from scipy.stats import norm

BETS = np.geomspace(0.03, 0.95, 12)  # shares of the capital; small ones find small differences
HALVINGS = 30  # of [-1, 1]: limits good to 2e-9
NODES, WIDEST = 240, 9.0  # of the numerical integration; standard deviations beyond which nothing happens
SQRT_TAU = math.sqrt(math.tau)
Spending = Literal["obrien_fleming", "pocock"]


@dataclass(frozen=True, kw_only=True)
class ConfidenceSequence:
    """After each block: the mean so far, the values of the true mean not yet excluded, and the evidence against zero.

    low, high: with probability 1 - alpha the true mean is inside at every block at once, so one may look and stop at
    any time; each block keeps what earlier ones excluded (should low exceed high, an event of probability alpha or
    less has happened or the blocks are not exchangeable). e_value: zero is excluded as soon as it reaches 1 / alpha.
    p: anytime-valid p-value, 1 / (largest e_value so far).
    """

    estimate: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]
    e_value: Float[np.ndarray, " n"]
    p: Float[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class GroupDesign:
    """Reject at look k when |z| >= boundaries[k]. fractions: of the maximal number of scenes. spent: alpha so far;
    nominal: two-sided p-value that the boundary stands for."""

    fractions: tuple[float, ...]
    boundaries: tuple[float, ...]
    spent: tuple[float, ...]
    nominal: tuple[float, ...]


def confidence_sequence(values: Float[np.ndarray, " n *tasks"], *, alpha: float = 0.05) -> ConfidenceSequence:
    """values[i, t] in [-1, 1]: first arm's outcome minus the second's on the i-th scene of task t; the mean over tasks
    is estimated. [n] alone: one task, or block means (valid, but slower to decide than the pairs of the block).

    Assumes that scenes are drawn independently and their order was fixed beforehand. Pairs of one block are bet on
    with the same stake, so that tasks may differ and even cancel: the expected product of independent factors with
    mean product_t (1 + bet * (mean_t - m)) is at most (1 + bet * (mean over t - m)) ** tasks. A block with an episode
    that could not be judged has to be left out whole: ValueError for NaN or values outside [-1, 1].
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha:g}.")
    blocks = values.reshape(len(values), int(np.prod(values.shape[1:])))
    if not (np.abs(blocks) <= 1).all():
        raise ValueError("Differences must lie in [-1, 1]; leave out whole blocks in which an episode is missing.")
    if not blocks.size:
        empty = np.zeros(0)
        return ConfidenceSequence(estimate=empty, low=empty, high=empty, e_value=empty, p=empty)
    levels, index = np.unique((1 + blocks) / 2, return_inverse=True)
    counts = np.stack([(index.reshape(blocks.shape) == k).sum(1).cumsum() for k in range(len(levels))], axis=1)
    half = np.full(len(blocks), 0.5)
    log_e = np.maximum(log_capital(levels, counts, half), log_capital(1 - levels, counts, half))
    return ConfidenceSequence(
        estimate=blocks.mean(1).cumsum() / np.arange(1, len(blocks) + 1),
        low=np.maximum.accumulate(2 * _lower(levels, counts, alpha) - 1),
        high=np.minimum.accumulate(1 - 2 * _lower(1 - levels, counts, alpha)),
        e_value=np.exp(np.minimum(log_e, 690.0)),  # stays a finite number in JSON
        p=np.exp(-np.maximum.accumulate(np.maximum(log_e, 0.0))),
    )


def group_sequential(
    looks: Sequence[float], *, alpha: float = 0.05, spending: Spending = "obrien_fleming"
) -> GroupDesign:
    """Two-sided boundaries for looks at these fractions of the maximal number, rising, the last at most 1.

    Later looks may be moved as long as the decision to move them ignores the results: boundaries of earlier looks do
    not depend on later ones. ValueError for fractions that do not rise inside (0, 1].
    """
    fractions = tuple(float(look) for look in looks)
    if not fractions or any(b <= a for a, b in zip((0.0, *fractions), fractions, strict=False)) or fractions[-1] > 1:
        raise ValueError(f"Looks must be rising fractions in (0, 1], got {list(fractions)}.")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha:g}.")
    spent = tuple(_spent(fraction, alpha, spending) for fraction in fractions)
    boundaries: list[float] = []
    state = _START
    for fraction, increment in zip(fractions, np.diff([0.0, *spent]), strict=True):

        def excess(boundary: float, state: _State = state, look: float = fraction, goal: float = increment) -> float:
            return float(np.log(max(sum(_cross(state, boundary, look)), 1e-320)) - np.log(max(goal, 1e-300)))

        boundaries.append(root_scalar(excess, bracket=(0.0, 38.0), method="brentq", xtol=1e-10).root)
        state = _continue(state, boundaries[-1], fraction)
    nominal = tuple(float(2 * norm.sf(boundary)) for boundary in boundaries)
    return GroupDesign(fractions=fractions, boundaries=tuple(boundaries), spent=spent, nominal=nominal)


@dataclass(frozen=True, kw_only=True)
class Exits:
    """Chance to stop at each look, for the first arm (upper) and against it (lower)."""

    upper: tuple[float, ...]
    lower: tuple[float, ...]


def exit_chances(design: GroupDesign, *, drift: float) -> Exits:
    """drift: expected z when all scenes are in (0 under the null; 2.8 gives about 80 % power to a fixed design)."""
    exits, state = [], _START
    for boundary, fraction in zip(design.boundaries, design.fractions, strict=True):
        exits.append(_cross(state, boundary, fraction, drift))
        state = _continue(state, boundary, fraction, drift)
    return Exits(upper=tuple(above for above, _ in exits), lower=tuple(below for _, below in exits))


def log_capital(
    levels: Float[np.ndarray, " k"], counts: np.ndarray, mean: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Log of half the mean capital of all bets on "more than mean[i]" after counts[i, j] draws of levels[j] in [0, 1].

    Half, because the other half of the money is on "less". A bet turns its share of the capital into share * level /
    mean, so the expected factor is one.
    """
    logs = np.zeros((len(counts), len(BETS)))
    ratio = 1 / np.maximum(mean, 1e-12)[:, None]
    for k, level in enumerate(levels):
        growth = np.log(1 - BETS + BETS * level * ratio) if level else np.log1p(-BETS)[None]
        logs += counts[:, k, None] * growth
    return np.asarray(logsumexp(logs, axis=1)) - np.log(2 * len(BETS))


def _lower(levels: Float[np.ndarray, " k"], counts: np.ndarray, alpha: float) -> Float[np.ndarray, " n"]:
    """Per row of counts, the largest mean in [0, 1] against which betting on more has earned 1 / alpha; else 0.

    The capital falls with the mean bet against and is at most one at the observed mean, so bisection finds it.
    """
    goal = -np.log(alpha)
    low, high = np.zeros(len(counts)), counts @ levels / counts.sum(1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        won = log_capital(levels, counts, middle) >= goal
        low, high = np.where(won, middle, low), np.where(won, high, middle)
    return low


def _spent(fraction: float, alpha: float, spending: Spending) -> float:
    if spending == "obrien_fleming":
        return float(4 * norm.sf(norm.isf(alpha / 4) / np.sqrt(fraction)))
    if spending == "pocock":
        return float(alpha * np.log1p((np.e - 1) * fraction))
    raise ValueError(f"spending is 'obrien_fleming' or 'pocock', got {spending!r}.")


@dataclass(frozen=True, kw_only=True)
class _State:
    """Where the sum of a study that has not stopped may be, and with what weight. sum = z * sqrt(fraction)."""

    fraction: float
    points: Float[np.ndarray, " k"]
    mass: Float[np.ndarray, " k"]


_START = _State(fraction=0.0, points=np.zeros(1), mass=np.ones(1))


def _cross(state: _State, boundary: float, fraction: float, drift: float = 0.0) -> tuple[float, float]:
    """Chance to stop at this look, above and below, by recursive integration (Armitage, McPherson & Rowe 1969)."""
    step, limit = fraction - state.fraction, boundary * math.sqrt(fraction)
    centre, error = state.points + drift * step, math.sqrt(step)
    return float(state.mass @ ndtr((centre - limit) / error)), float(state.mass @ ndtr((-limit - centre) / error))


def _continue(state: _State, boundary: float, fraction: float, drift: float = 0.0) -> _State:
    step, edge = fraction - state.fraction, math.sqrt(fraction)
    centre, error = state.points + drift * step, math.sqrt(step)
    start = max(-boundary * edge, drift * fraction - WIDEST * edge)
    stop = min(boundary * edge, drift * fraction + WIDEST * edge)
    nodes, widths = leggauss(NODES)
    reached = (start + stop) / 2 + (stop - start) / 2 * nodes
    density = np.exp(-(((reached[:, None] - centre[None]) / error) ** 2) / 2) @ state.mass / (error * SQRT_TAU)
    return _State(fraction=fraction, points=reached, mass=density * widths * (stop - start) / 2)
