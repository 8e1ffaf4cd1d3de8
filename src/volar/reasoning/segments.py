"""Which named pieces of text a policy tells itself, and how each is treated; settings as one readable string.

The pieces are those of embodied chain-of-thought (arXiv 2407.08693) and the motion text of Actions as Language
(OpenReview sFO9d6XSlf); free of torch.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from volar.core.errors import ConfigError, unknown_name

NAMES = ("task", "plan", "objects", "subtask", "move", "gripper", "motion")
FLAGS = {"event": {"event": True}, "unlearned": {"learned": False}, "unseen": {"seen": False}}


class Mode(StrEnum):
    """think: words are said, then the action. follow: given words are read, then the action. act: no words."""

    ACT = "act"
    THINK = "think"
    FOLLOW = "follow"


@dataclass(frozen=True, kw_only=True)
class Segment:
    """refresh: looks after which it is thought anew; until then its old text is kept. event: also anew when the gripper
    has opened or closed. dropout: how often it is left out in training. learned: False puts no loss on it, so that it
    is never said, only followed where it is given. seen: False says it after all others, unread by the decoder."""

    name: str
    refresh: int = 1
    event: bool = False
    dropout: float = 0.0
    learned: bool = True
    seen: bool = True

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise unknown_name("segment", self.name, NAMES)
        if self.refresh < 1:
            raise ConfigError(f"Segment {self.name!r}: refresh counts looks, 1 is every look; got {self.refresh}.")
        if not 0 <= self.dropout <= 1:
            raise ConfigError(f"Segment {self.name!r}: dropout is a share, 0 to 1; got {self.dropout}.")
        if not (self.learned or self.seen):
            raise ConfigError(f"Segment {self.name!r} is unlearned and unseen, so it does nothing; leave it out.")


def read_segments(text: str) -> tuple[Segment, ...]:
    """Segments in the order in which they are said, the unseen ones last. `;` stands between them; a name is followed
    by `refresh=`, `dropout=` and the flags `event`, `unlearned`, `unseen`.

    >>> read_segments("subtask refresh=4 event; move dropout=0.5")[0].refresh
    4
    """
    found = tuple(_read_segment(part.split()) for part in text.split(";") if part.strip())
    names = [segment.name for segment in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"Every segment is said once; {', '.join(twice)} came more than once in {text!r}.")
    return tuple(sorted(found, key=lambda segment: not segment.seen))


def _read_segment(words: list[str]) -> Segment:
    segment = Segment(name=words[0])
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if word in FLAGS:
            segment = replace(segment, **FLAGS[word])
        elif key == "refresh" and value.isdecimal():
            segment = replace(segment, refresh=int(value))
        elif key == "dropout" and equals:
            segment = replace(segment, dropout=_number(value, word))
        else:
            raise unknown_name("setting of a segment", word, ("refresh=4", "dropout=0.5", *FLAGS))
    return segment


def read_shares(text: str) -> dict[Mode, float]:
    """How often each mode is trained, such as `think`, or `act 0.25, think 0.5, follow 0.25`; they sum to 1."""
    shares: dict[Mode, float] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition(" ")
        if name not in list(Mode):
            raise unknown_name("mode", name, [mode.value for mode in Mode])
        shares[Mode(name)] = _number(share, part.strip()) if share else 1.0
    if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6) or min(shares.values()) <= 0:
        raise ConfigError(f"The shares of the modes are positive and sum to 1; got {text!r}.")
    return shares


def _number(value: str, where: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ConfigError(f"{where!r}: expected a number, got {value!r}.") from error
