"""What a task of `tabletop` is: where things begin, what counts as success or failure, how an expert does it.

Functions of a `Scene`; MuJoCo is not needed here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from volar.core.evidence import Signs, Stage

Ways = tuple[float, float]  # of two equally good ones at a first and a second choice: -1 left, 1 right
REACH = Stage(name="reach", measure="hand_to_object", below=0.04, missed="never reached")
GRASP = Stage(name="grasp", measure="object_lifted", above=0.02, missed="missed grasp", lost="dropped")


@dataclass(frozen=True)
class Scene:
    """The world's state in metres. hand: the point between the fingertips. opening: 0 closed to 1 open.
    objects: rows of x, y, z and quaternion wxyz. goals: bodies that nothing moves, such as regions and bowls.
    pressed: newtons on the fixture. joints: of drawers and buttons, in the order of the scene.
    notes: what the task remembers of the episode. time: seconds since it began. kicks: metres per second that an
    answer of `advance` gives to the objects; empty for none."""

    hand: Float64[np.ndarray, " 3"]
    opening: float
    objects: Float64[np.ndarray, "n 7"]
    goals: Float64[np.ndarray, "m 3"]
    pressed: float = 0.0
    joints: Float64[np.ndarray, " j"] = field(default_factory=lambda: np.zeros(0))
    notes: Float64[np.ndarray, " k"] = field(default_factory=lambda: np.zeros(0))
    time: float = 0.0
    kicks: Float64[np.ndarray, "_ 3"] = field(default_factory=lambda: np.zeros((0, 3)))

    @property
    def goal(self) -> Float64[np.ndarray, " 3"]:
        return self.goals[0]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Tasks that share a physical scene. things: its bodies in MuJoCo's XML: free objects first, then goals and what
    has joints. objects, goals, joints: a word for each, by which the state view names its numbers. signs: how their
    failures are told apart. version: of everything about them that a number depends on. words: what people call the
    objects and goals, where it is not their name."""

    name: str
    things: tuple[str, ...]
    signs: Signs
    objects: tuple[str, ...] = ("object_1", "object_2", "object_3")
    goals: tuple[str, ...] = ("goal",)
    joints: tuple[str, ...] = ()
    version: int = 1
    words: tuple[str, ...] = ()


def first_object(now: Scene) -> int | None:
    return 0


def never(before: Scene, now: Scene) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Task:
    """layout: random generator -> initial Scene, the same for all tasks that share scenes. left: metres still to go.
    broken: of (initial, present), ends the episode as a failure. expert: action in the environment's units.
    target: row of the object that the instruction means, None where it means none.
    advance: (initial, present) -> the present with new `notes`, `goals` and `kicks`, after every step; nothing else of
    its answer is used, so that a task can remember and show things but moves objects by impulses only.
    say: the present instruction, where it changes within the episode. facts: measures beside those all tasks have."""

    family: Family
    instructions: tuple[str, ...]
    layout: Callable[[np.random.Generator], Scene]
    left: Callable[[Scene], float]
    done: Callable[[Scene], bool]
    expert: Callable[[Scene, Ways], np.ndarray]
    broken: Callable[[Scene, Scene], bool] = never
    target: Callable[[Scene], int | None] = first_object
    advance: Callable[[Scene, Scene], Scene] | None = None
    say: Callable[[Scene], str] | None = None
    facts: Callable[[Scene], Mapping[str, float]] | None = None


def standing(points: Float64[np.ndarray, "n 2"], height: float) -> Float64[np.ndarray, "n 7"]:
    """Upright objects of that height at points of the table."""
    upright = np.tile([0.0, 0.0, height / 2, 1.0, 0.0, 0.0, 0.0], (len(points), 1))
    upright[:, :2] = points
    return upright


def horizontal(first: Float64[np.ndarray, " _"], second: Float64[np.ndarray, " _"]) -> float:
    """Metres between two points, or the positions of two poses, as seen from above."""
    return math.dist(first[:2].tolist(), second[:2].tolist())
