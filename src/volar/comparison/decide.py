"""Is one arm better than another? The registered test on the scenes of a pair; wording is in words.py.

Three designs: `anytime` (a confidence sequence, valid whenever one looks), `group` (boundaries at the registered
looks), `fixed` (one score test at the end). Every number is other minus reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import root_scalar
from scipy.stats import norm

from volar.comparison.outcomes import Draws, Scenes, paired_draws
from volar.comparison.protocol import Protocol
from volar.comparison.result import Monitor, Standing
from volar.statistics.intervals import Interval
from volar.statistics.multiple import holm
from volar.statistics.sequential import ConfidenceSequence, confidence_sequence, group_sequential

POINTS = 240  # more than this no page shows


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the registered design says about one pair. interval: at confidence 1 - alpha; p: of "no difference";
    equivalence_p: of "the difference is the margin or more", None without a margin or beyond a design's means."""

    interval: Interval
    p: float
    equivalence_p: float | None


def judge(scenes: Scenes, protocol: Protocol) -> Judgement | None:
    """The registered test on paired scenes; None when no test is possible (a task without scenes, no look yet)."""
    if protocol.design == "anytime":
        return _anytime(scenes.blocks(), protocol)
    if protocol.design == "group":
        return _group(scenes, protocol)
    draws = paired_draws(scenes.strata())
    return judge_draws(draws, protocol) if draws is not None else None


def judge_draws(draws: Draws, protocol: Protocol) -> Judgement:
    """One score test at a number of scenes that was fixed beforehand."""
    return Judgement(
        interval=draws.interval(1 - protocol.alpha),
        p=float(2 * norm.sf(abs(draws.z()))),
        equivalence_p=_outside(draws, protocol.margin),
    )


def standings(found: Sequence[Judgement | None], protocol: Protocol) -> list[Standing]:
    """One per registered pair, Holm's correction over all of them: over those that were tested for a difference, and
    over those that were tested for equivalence. The two cannot both be wrong, so each keeps alpha."""
    adjusted = adjusted_p([one.p if one else None for one in found])
    equivalent = adjusted_p([one.equivalence_p if one else None for one in found])
    return [_standing(one, p, equal, protocol.alpha) for one, p, equal in zip(found, adjusted, equivalent, strict=True)]


def adjusted_p(values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjustment; a test that could not be made counts as one with p = 1."""
    adjusted = holm([1.0 if value is None else min(value, 1.0) for value in values])
    return [None if value is None else p for value, p in zip(values, adjusted, strict=True)]


def monitor(scenes: Scenes, protocol: Protocol, *, stopped: int | None) -> Monitor | None:
    """The confidence sequence at 1 - alpha as the scenes came in; also a fixed design may be watched by it."""
    blocks = scenes.blocks()
    if not len(blocks):
        return None
    found = confidence_sequence(blocks, alpha=protocol.alpha)
    shown = np.unique(np.linspace(0, len(blocks) - 1, POINTS).round().astype(int))
    return Monitor(
        scenes=tuple((shown + 1).tolist()), estimate=_listed(found.estimate[shown]), low=_listed(found.low[shown]),
        high=_listed(found.high[shown]), e_value=_listed(found.e_value[shown]), stopped=stopped,
    )  # fmt: skip


def _standing(found: Judgement | None, p: float | None, equivalence_p: float | None, alpha: float) -> Standing:
    if found is None or p is None:
        return "not compared"
    if p <= alpha:
        return "better" if found.interval.estimate > 0 else "worse"
    return "equivalent" if equivalence_p is not None and equivalence_p <= alpha else "undecided"


def _anytime(blocks: Float[np.ndarray, "n tasks"], protocol: Protocol) -> Judgement | None:
    if not len(blocks):
        return None
    found = confidence_sequence(blocks, alpha=protocol.alpha)
    return Judgement(
        interval=_last(found), p=float(found.p[-1]), equivalence_p=_anytime_outside(blocks, protocol.margin)
    )


def _last(found: ConfidenceSequence) -> Interval:
    return Interval(estimate=float(found.estimate[-1]), low=float(found.low[-1]), high=float(found.high[-1]))


def _anytime_outside(blocks: Float[np.ndarray, "n tasks"], margin: float) -> float | None:
    """Smallest alpha whose one-sided limits both lie inside the margin; at 2 alpha each side has alpha."""
    if margin <= 0:
        return None

    def excess(alpha: float) -> float:
        limits = _last(confidence_sequence(blocks, alpha=min(2 * alpha, 1 - 1e-12)))
        return max(limits.high, -limits.low) - margin

    low, high = 1e-6, 0.5
    if excess(high) >= 0:
        return 1.0
    return low if excess(low) < 0 else root_scalar(excess, bracket=(low, high), xtol=1e-5).root


def _group(scenes: Scenes, protocol: Protocol) -> Judgement | None:
    """At the last registered look whose scenes were all met; later scenes wait for the next look. A look is made
    without its broken scenes, at its registered fraction: they are few, and what broke does not depend on outcomes.

    p is the repeated p-value (Jennison & Turnbull 2000, section 9.5): the smallest alpha at which some look so far
    would have stopped. The interval is the repeated one of the last look.
    """
    seen = {look: protocol.seeds[:look] for look in protocol.looks if scenes.met.issuperset(protocol.seeds[:look])}
    blocks = {look: found for look, seeds in seen.items() if len(found := scenes.blocks(seeds))}
    if not blocks:
        return None
    looks = list(blocks)
    draws = [_blocks_draws(blocks[look]) for look in looks]
    z = [abs(found.z()) for found in draws]
    fractions = [look / protocol.max_episodes for look in looks]

    def excess(alpha: float) -> float:
        design = group_sequential(fractions, alpha=alpha)
        return max(found - boundary for found, boundary in zip(z, design.boundaries, strict=True))

    low, high = 1e-8, 0.999
    if excess(high) < 0:
        p = 1.0
    else:
        p = low if excess(low) >= 0 else root_scalar(excess, bracket=(low, high), xtol=1e-5).root
    boundary = group_sequential(fractions, alpha=protocol.alpha).boundaries[-1]
    return Judgement(
        interval=draws[-1].interval(float(1 - 2 * norm.sf(boundary))), p=p,
        equivalence_p=_outside(draws[-1], protocol.margin) if looks[-1] == protocol.max_episodes else None,
    )  # fmt: skip


def _blocks_draws(blocks: Float[np.ndarray, "n tasks"]) -> Draws:
    draws = paired_draws(list(blocks.T))
    assert draws is not None
    return draws


def _outside(draws: Draws, margin: float) -> float | None:
    """Two one-sided score tests of a difference of the margin or more (Schuirmann 1987): the larger p-value."""
    if margin <= 0:
        return None
    return float(max(norm.sf(draws.z(-margin)), norm.cdf(draws.z(margin))))


def _listed(values: Float[np.ndarray, " n"]) -> tuple[float, ...]:
    return tuple(round(value, 6) for value in values.tolist())
