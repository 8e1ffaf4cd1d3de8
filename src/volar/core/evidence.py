"""Why an episode failed, told from what was measured in it: stages that were passed, and signs of known mishaps.

An environment names its measures and thresholds; what follows from them is decided here, the same for all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

STUCK, OSCILLATING = 0.25, 0.4  # shares of an episode's steps


@dataclass(frozen=True, kw_only=True)
class Track:
    """One measure over an episode, in its own unit: at the beginning and the end, its extremes and their steps."""

    first: float
    last: float
    low: float
    high: float
    low_step: int
    high_step: int


@dataclass(frozen=True, kw_only=True)
class Motion:
    """still: steps at the end in which nothing of the robot moved. reversals: share of steps in the second half whose
    action points against the one before."""

    still: int
    reversals: float


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A milestone: passed once `measure` fell below `below`, or rose above `above`; lost if it does not hold at the
    end. missed, lost: the cause that follows from either."""

    name: str
    measure: str
    missed: str
    below: float | None = None
    above: float | None = None
    lost: str | None = None

    def holds(self, value: float) -> bool:
        return (self.below is None or value < self.below) and (self.above is None or value > self.above)


@dataclass(frozen=True, kw_only=True)
class Mishap:
    """A cause of its own, once `measure` rose above `above`; by how much it grew since the beginning if `grew`."""

    cause: str
    measure: str
    above: float
    grew: bool = False


@dataclass(frozen=True, kw_only=True)
class Signs:
    """How an environment tells failures apart. stages: in their order. terminated: what its own end of an episode
    means."""

    stages: Sequence[Stage] = ()
    mishaps: Sequence[Mishap] = ()
    terminated: str = "terminated"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How far an episode came and what went wrong there. evidence: the recorded facts behind it, in words."""

    stage: str
    cause: str
    evidence: str = ""


def explain(signs: Signs, tracks: Mapping[str, Track], motion: Motion, *, steps: int, terminated: bool) -> Failure:
    """A mishap names the cause first, then the environment's own end, then what was gained and lost again, then a robot
    that got stuck or swings, then the milestone that was missed."""
    known = [stage for stage in signs.stages if stage.measure in tracks]
    ahead = [stage for stage in known if not _passed(stage, tracks[stage.measure])]
    passed = known[: known.index(ahead[0])] if ahead else known
    name = ahead[0].name if ahead else ("finish" if known else "unknown")
    words = [_stage_words(stage, tracks[stage.measure]) for stage in (ahead[:1] or known[-1:])]
    for mishap in signs.mishaps:
        if mishap.measure in tracks and (rose := _rise(mishap, tracks[mishap.measure])) > mishap.above:
            return _failure(name, mishap.cause, [f"{mishap.measure} rose by {rose:.3g}" if mishap.grew
                                                 else f"{mishap.measure} was {rose:.3g}"])  # fmt: skip
    if terminated:
        return _failure(name, signs.terminated, [f"the environment ended it after {steps} steps", *words])
    for stage in reversed(passed):
        if stage.lost is not None and not stage.holds(tracks[stage.measure].last):
            ended = f"{stage.measure} held but ended at {tracks[stage.measure].last:.3g}"
            return _failure(stage.name, stage.lost, [ended])
    if motion.still >= max(STUCK * steps, 5):
        return _failure(name, "stuck", [f"nothing moved in the last {motion.still} of {steps} steps", *words])
    if motion.reversals > OSCILLATING:
        return _failure(name, "oscillation", [f"{motion.reversals:.0%} of the late actions point back", *words])
    return _failure(name, ahead[0].missed if ahead else "time-out", words or [f"{steps} steps were not enough"])


def _passed(stage: Stage, track: Track) -> bool:
    return stage.holds(track.low) or stage.holds(track.high)


def _rise(mishap: Mishap, track: Track) -> float:
    return track.high - track.first if mishap.grew else track.high


def _stage_words(stage: Stage, track: Track) -> str:
    if stage.below is not None:
        return f"{stage.measure} came down to {track.low:.3g} at step {track.low_step} (needed below {stage.below:g})"
    return f"{stage.measure} came up to {track.high:.3g} at step {track.high_step} (needed above {stage.above:g})"


def _failure(stage: str, cause: str, words: Sequence[str]) -> Failure:
    return Failure(stage=stage, cause=cause, evidence="; ".join(words))
