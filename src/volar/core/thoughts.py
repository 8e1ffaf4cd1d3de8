"""What a policy tells itself before it acts: marks on pictures and words. Free of torch, like `core/robot.py`.

The same type is the label of a frame in a data set, what a person says in place of the policy, and what is recorded.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from volar.core.errors import ConfigError

PAIRS = ("centre", "size")  # lists in JSON


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A visual primitive: a place on one camera's picture (Action with Visual Primitives, arXiv 2605.22183).

    centre: u, v; size: width, height; both in fractions of the picture from its upper left corner. A size of zeros is
    a point, any other an upright box; a region is a box. role: "next" for the next gripper or contact event, "source",
    "destination", or an object's name. order: 1, 2, 3 ... of marks that follow one another, 0 where they do not. done:
    its event has happened, and it is only remembered.
    """

    camera: str
    centre: tuple[float, float]
    size: tuple[float, float] = (0.0, 0.0)
    role: str = "next"
    order: int = 0
    done: bool = False

    def __post_init__(self) -> None:
        if not all(0.0 <= number <= 1.0 for number in (*self.centre, *self.size)):
            raise ConfigError(
                f"A mark lies on the picture: centre and size are fractions, 0 to 1; got {self.centre}, {self.size}."
            )


@dataclass(frozen=True, kw_only=True)
class Thought:
    """words: segment name -> text, such as task, plan, objects, subtask, move, gripper, motion. ages: segment name, or
    "marks", -> looks since it was thought; 0 is fresh. tokens: generated for this look."""

    words: Mapping[str, str] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    ages: Mapping[str, int] = field(default_factory=dict)
    tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Thought":
        marks: list[dict[str, Any]] = [{**mark, **{key: tuple(mark[key]) for key in PAIRS}} for mark in data["marks"]]
        return cls(
            words=dict(data["words"]),
            marks=tuple(Mark(**mark) for mark in marks),
            ages=dict(data["ages"]),
            tokens=data["tokens"],
        )


@dataclass(frozen=True, kw_only=True)
class Recall:
    """What an episode has left of its last look. event: the gripper's command changed sides since then."""

    thought: Thought
    event: bool
