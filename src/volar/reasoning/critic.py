"""Whether a motion did what it was meant to do, and what to change, in words that a language model can act on.

The person of Language Movement Primitives' loop (arXiv 2602.02839), as an interface with members that need nobody.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from volar.core.objects import NamedObject
from volar.core.robot import Env
from volar.reasoning.prompts import Kind


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What a motion was meant to do, and, in words, how it went about it."""

    kind: Kind
    object: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Situation:
    """hand: metres. closed: whether the fingers are told to be. objects: as the policy perceives them."""

    hand: Float64[np.ndarray, " 3"]
    closed: bool
    objects: Mapping[str, NamedObject]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """problem: what went wrong. correction: what to do otherwise, for the model. again: whether the same motion with
    other parameters can mend it. written: tokens that it cost."""

    success: bool
    problem: str = ""
    correction: str = ""
    again: bool = True
    written: int = 0


class Judge(ABC):
    """Watches one motion after the other. privileged: what it uses that a robot would not have."""

    privileged: tuple[str, ...] = ()

    def bind(self, env: Env, seed: int) -> None:  # noqa: B027, for those that go by what they are shown
        """Called at the beginning of an episode."""

    @abstractmethod
    def begin(self, tried: Tried, now: Situation) -> None: ...

    @abstractmethod
    def watch(self, now: Situation, share: float) -> None:
        """At every look while the motion is under way, and at its end. share: of its way that is done, 0 to 1."""

    @abstractmethod
    def judge(self) -> Verdict:
        """Of the motion that has ended. Raises EpisodeError where nobody can say."""
