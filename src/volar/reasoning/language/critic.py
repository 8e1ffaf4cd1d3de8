"""Whether a motion does what it is meant to do, and what to change, in words that a language model can act on.

The person of Language Movement Primitives' loop (arXiv 2602.02839) as an interface, with members that need nobody.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from volar.core.objects import NamedObject
from volar.core.robot import Env
from volar.core.thoughts import Thought
from volar.reasoning.language.conversation import Conversation
from volar.reasoning.language.motion_plan import Foreseen
from volar.reasoning.language.prompts import Kind

Phase = Literal["early in", "in the middle of", "late in", "at the end of"]
PHASES: tuple[Phase, ...] = ("early in", "in the middle of", "late in", "at the end of")
AXES = ("x", "y", "z")
SIDES = {"x": ("to the left", "to the right"), "y": ("towards you", "away from you"), "z": ("down", "up")}
GRIPPED = 0.012  # metres sideways between a gripped thing's centre and the hand
WIDEST, THINNEST = 0.055, 0.005  # metres
CORRECTION = "correction"  # the segment of a Thought that holds the latest one, with its number


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What a motion is meant to do, and, in words, how it goes about it. closes: what the gripper is to be after it;
    None where the motion leaves it as it is. goal: where the hand is to end, metres."""

    kind: Kind
    object: str
    words: str
    closes: bool | None
    goal: Float64[np.ndarray, " 3"]


@dataclass(frozen=True, kw_only=True)
class Situation:
    """hand: metres. closed: whether the fingers are told to be. objects: as the policy perceives them. turned: radians
    about the vertical that the hand has turned in this episode; None for one that cannot."""

    hand: Float64[np.ndarray, " 3"]
    closed: bool
    objects: Mapping[str, NamedObject]
    turned: float | None = None

    def gripped(self) -> str | None:
        """The thing between closed fingers."""
        for name, thing in self.objects.items() if self.closed else ():
            off = np.abs(thing.position - self.hand)
            # Closed fingers that stand on a thing are a fingertip above it.
            between = float(np.hypot(off[0], off[1])) < GRIPPED and off[2] < thing.size[2] / 2 + 0.002
            if between and may_be_gripped(thing):
                return name
        return None


def may_be_gripped(thing: NamedObject) -> bool:
    """Whether it is narrow enough for fingers to close around, and no mark on the table."""
    return bool(min(thing.size[:2]) < WIDEST and thing.size[2] > THINNEST)


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A directional correction: go that many metres along the axis, signed, in that part of the motion."""

    axis: int
    metres: float
    phase: Phase = "at the end of"

    def words(self) -> str:
        side = SIDES[AXES[self.axis]][self.metres > 0]
        return (
            f"{abs(self.metres) * 100:.1f} cm further {side} ({AXES[self.axis]} {self.metres:+.3f} m) {self.phase} the "
            f"motion"
        )


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A temporal correction of the gripper's event."""

    event: Literal["open", "close"]
    later: bool

    def words(self) -> str:
        return f"{self.event} the gripper {'later, after arrival' if self.later else 'earlier'}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """problem: what went wrong, in words. changes: what to do otherwise. again: whether the same motion with other
    parameters can mend it. advice: said instead of the changes, where it is not made of any."""

    success: bool
    problem: str = ""
    changes: tuple[Shift | Timing, ...] = ()
    again: bool = True
    advice: str = ""

    def correction(self) -> str:
        """For the model."""
        changes = self.advice or "; ".join(each.words() for each in self.changes) or "try again"
        return f"{self.problem}: {changes}." if self.problem else f"{changes}."


PASSED = Verdict(success=True)


class Judge(ABC):
    """Watches one motion after the other. privileged: what it uses that a robot would not have."""

    privileged: tuple[str, ...] = ()

    def bind(self, env: Env, seed: int) -> None:  # noqa: B027, for those that go by what they are shown
        """Called at the beginning of an episode."""

    def preview(self, tried: Tried, path: Foreseen, now: Situation) -> Verdict:
        """Of a motion that has not begun; whoever only judges what happened lets all pass."""
        return PASSED

    @abstractmethod
    def begin(self, tried: Tried, now: Situation) -> None: ...

    @abstractmethod
    def watch(self, now: Situation, share: float) -> None:
        """At every look while the motion is under way, and at its end. share: of its way that is done, 0 to 1."""

    @abstractmethod
    def judge(self, talk: Conversation) -> Verdict:
        """Of the motion that has ended. talk: for those who ask a model. Raises EpisodeError where nobody can say."""


def corrections_used(thoughts: Sequence[Thought]) -> int:
    """How many corrections were given in an episode, by what it recorded."""
    said = [thought.words[CORRECTION] for thought in thoughts if CORRECTION in thought.words]
    return int(said[-1].partition(":")[0]) if said else 0
