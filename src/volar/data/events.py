"""What happens in an episode, read off its numbers: stretches of standing still, the gripper opening and closing.

For people who look at episodes; thresholds are stated, nothing is learnt.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Shaped

from volar.core.robot import Gripper

STILL_SECONDS: Final = 0.5  # shorter pauses belong to any motion that turns round
STILL_SHARE: Final = 0.01  # of a dimension's range: what noise and creeping may add up to within STILL_SECONDS
MOVED_SHARE: Final = 0.25  # of a gripper dimension's range


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Frames start (inclusive) to stop (exclusive) of an episode."""

    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class GripperEvent:
    """At `frame` the command of gripper dimension `name` changes sides. kind: "closes" or "opens" where the robot's
    polarity is declared, otherwise "rises" or "falls"."""

    frame: int
    name: str
    kind: str


def idle_stretches(
    values: Float[np.ndarray, "t d"], low: Float[np.ndarray, " d"], high: Float[np.ndarray, " d"], fps: int | float
) -> list[Stretch]:
    """Where for at least `STILL_SECONDS` no dimension moves by more than `STILL_SHARE` of low to high, its range over
    the data set. A dimension that never varies counts as still."""
    window = max(round(STILL_SECONDS * fps), 2)
    if len(values) < window:
        return []
    views = np.lib.stride_tricks.sliding_window_view(values, window, axis=0)
    still = (views.max(-1) - views.min(-1) <= STILL_SHARE * (high - low)).all(1)
    idle = np.zeros(len(values), np.bool_)
    for offset in range(window):
        idle[offset : offset + len(still)] |= still
    return _runs(idle)


def _runs(flags: Bool[np.ndarray, " t"]) -> list[Stretch]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [Stretch(start=int(a), stop=int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def gripper_events(
    values: Shaped[np.ndarray, "t d"], low: Float[np.ndarray, " d"], high: Float[np.ndarray, " d"],
    names: Sequence[str], polarity: Gripper,
) -> list[GripperEvent]:  # fmt: skip
    """Changes of the dimensions named after a gripper or jaw between the lower and the upper third of what they do in
    this episode. The middle third decides nothing, and less than `MOVED_SHARE` of low to high, the range over the data
    set, is noise."""
    kinds = {"positive_closes": ("closes", "opens"), "positive_opens": ("opens", "closes"), "none": ("rises", "falls")}
    up, down = kinds[polarity]
    events = []
    for d, name in enumerate(names):
        course = values[:, d] - values[:, d].min()
        reach = course.max()
        if not re.search("grip|jaw", name, re.IGNORECASE) or reach <= MOVED_SHARE * (high[d] - low[d]):
            continue
        decided = np.flatnonzero((course < reach / 3) | (course > 2 * reach / 3))
        above = course[decided] > reach / 2
        for k in np.flatnonzero(above[1:] != above[:-1]) + 1:
            events.append(GripperEvent(frame=int(decided[k]), name=name, kind=up if above[k] else down))
    return sorted(events, key=lambda event: event.frame)
