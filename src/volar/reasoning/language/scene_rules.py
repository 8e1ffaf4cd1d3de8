"""What geometry says a hand should do next: the teacher of a small language model, and an arm to compare one with.

Rules for tables with upright things; no language and nothing learned. Pushing and wiping are not among them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from volar.core.errors import unknown_name
from volar.core.objects import NamedObject
from volar.reasoning.language.motion_request import AxisName, GripperEvent, MotionRequest, Via
from volar.reasoning.language.prompts import SubTask

Relation = Literal["in", "on", "left of", "right of"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)
HELD = 0.025  # metres between the centre of a thing and the closed hand that holds it
THERE = 0.03  # metres from its goal, seen from above, at which a thing has been delivered
BESIDE = 0.05  # metres between the centres of two things side by side
DROP = 0.05  # metres above a container's floor at which a thing is let go
ABOVE = 0.05  # metres that hand and load need over what they pass
BELOW = 0.05  # metres above the table up to which the hand's usual arc clears things
ASIDE = 0.065  # metres that hand and load need beside what they pass
NARROW = 0.05  # metres, half a width: what is wider is passed above
SPREAD = 0.12  # of the way, before and behind the middle of what is passed above
LOW = 0.08  # metres: a hand below this must rise before it goes anywhere
FASTEST = 0.25


@dataclass(frozen=True, kw_only=True)
class Errand:
    """One thing to one place; objects by name."""

    thing: str
    place: str
    relation: Relation


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Between hand and goal. fraction: of the straight way, at its centre. axis: to pass it along. clearances: signed
    metres off the straight way along that axis, one for each side on which it may be passed, the least first."""

    name: str
    fraction: float
    axis: AxisName
    clearances: tuple[float, ...]

    @property
    def clearance(self) -> float:
        return self.clearances[0]


def holds(name: str, objects: Mapping[str, NamedObject], hand: Float64[np.ndarray, " 3"], *, closed: bool) -> bool:
    return closed and float(np.linalg.norm(objects[name].position - hand)) < HELD


def destination(errand: Errand, objects: Mapping[str, NamedObject]) -> Float64[np.ndarray, " 3"]:
    """Offset of the thing's centre from the place's, metres."""
    thing, place = objects[errand.thing], objects[errand.place]
    if errand.relation == "in":
        return np.array([0.0, 0.0, DROP])
    # A region's place is on the table, another thing's is its middle.
    rest = thing.size[2] / 2 + 0.005 - min(place.position[2], place.size[2] / 2)
    sideways = {"on": 0.0, "left of": -BESIDE, "right of": BESIDE}[errand.relation]
    return np.array([sideways, 0.0, max(rest, 0.0)])


def delivered(errand: Errand, objects: Mapping[str, NamedObject]) -> bool:
    goal = objects[errand.place].position + destination(errand, objects)
    return float(np.linalg.norm((objects[errand.thing].position - goal)[:2])) < THERE


def next_subtask(
    errands: Sequence[Errand], objects: Mapping[str, NamedObject], hand: Float64[np.ndarray, " 3"], *, closed: bool
) -> SubTask:
    """Of the first errand that is not done, judged by what is seen alone, so that what fell is fetched again. Raises
    ConfigError for a name that is not among the objects."""
    for errand in errands:
        for name in (errand.thing, errand.place):
            if name not in objects:
                raise unknown_name("object", name, objects)
        held = holds(errand.thing, objects, hand, closed=closed)
        if delivered(errand, objects):
            if held:
                return SubTask(subtask="release", object=errand.thing)
            continue
        if not held:
            return SubTask(subtask="reach", object=errand.thing)
        goal = objects[errand.place].position + destination(errand, objects)
        obstacle = blocking(objects, hand, goal, {errand.thing, errand.place})
        passing = "" if obstacle is None else f", pass {side_of(obstacle, obstacle.clearance)} the {obstacle.name}"
        return SubTask(subtask="carry", object=errand.place, note=errand.relation + passing)
    return SubTask(subtask="done", object="")


def side_of(obstacle: Obstacle, clearance: float) -> str:
    """On which side so much clearance passes it, in words."""
    words = {("x", True): "right of", ("x", False): "left of", ("y", True): "behind", ("y", False): "in front of"}
    return words.get((obstacle.axis, clearance > 0), "over")


def blocking(
    objects: Mapping[str, NamedObject], hand: Float64[np.ndarray, " 3"], goal: Float64[np.ndarray, " 3"],
    apart: Collection[str],
) -> Obstacle | None:  # fmt: skip
    """The highest thing on the way from hand to goal that the usual arc does not clear, None where there is none.
    Narrow ones are passed beside, on the side where they reach less far over the way, wide ones above. apart: names of
    what is carried and what is gone to."""
    way = (goal - hand)[:2]
    length = float(np.linalg.norm(way))
    found = None
    for name, thing in objects.items():
        if name in apart or length < ASIDE or thing.size[2] <= BELOW:
            continue
        fraction = float((thing.position - hand)[:2] @ way) / length**2
        off = (thing.position - hand)[:2] - fraction * way
        axis = int(abs(way[0]) >= abs(way[1]))  # the one that the way follows less
        broad = float(thing.size[axis]) / 2
        if not 0 < fraction < 1 or abs(off[axis]) > broad + ASIDE / 2:
            continue
        if found is None or thing.size[2] > objects[found.name].size[2]:
            asides = sorted((float(off[axis]) + side * (broad + ASIDE) for side in (-1, 1)), key=abs)
            beside = broad <= NARROW
            found = Obstacle(
                name=name, fraction=fraction, axis=("x", "y")[axis] if beside else "z",
                clearances=tuple(asides) if beside else (float(thing.size[2]) + ABOVE - float(hand[2]),),
            )  # fmt: skip
    return found


def parameters(
    chosen: SubTask, objects: Mapping[str, NamedObject], hand: Float64[np.ndarray, " 3"], *, closed: bool
) -> MotionRequest:
    """Of a reach, carry or release as `next_subtask` says it, lengths to whole centimetres."""
    if chosen.subtask == "release":
        return MotionRequest(goal_object=chosen.object, gripper=(GripperEvent(event="open"),))
    if chosen.subtask == "reach":
        opening = (GripperEvent(event="open", at_fraction=0.0),) if closed else ()
        return MotionRequest(
            goal_object=chosen.object,
            speed_m_s=FASTEST,
            vias=_arc(hand),
            gripper=(*opening, GripperEvent(event="close")),
        )
    held = [name for name in objects if holds(name, objects, hand, closed=closed)]
    errand = Errand(thing=held[0] if held else chosen.object, place=chosen.object, relation=_relation(chosen))
    offset = destination(errand, objects)
    goal = objects[chosen.object].position + offset
    obstacle = blocking(objects, hand, goal, {errand.thing, errand.place})
    x, y, z = (_cm(each) for each in offset)
    return MotionRequest(
        goal_object=chosen.object, goal_offset_m=(x, y, z), speed_m_s=FASTEST,
        vias=_arc(hand) if obstacle is None else _past(obstacle),
    )  # fmt: skip


def _relation(chosen: SubTask) -> Relation:
    said = chosen.note.partition(",")[0]
    found: list[Relation] = [relation for relation in RELATIONS if relation == said]
    return found[0] if found else "on"


def _arc(hand: Float64[np.ndarray, " 3"]) -> tuple[Via, ...]:
    """Up first where the hand is low, and down from above."""
    rising = (Via(at_fraction=0.1, axis="z", clearance_m=0.05),) if hand[2] < LOW else ()
    return (*rising, Via(at_fraction=0.9, axis="z", clearance_m=0.05))


def _past(obstacle: Obstacle) -> tuple[Via, ...]:
    clearance, at = _cm(obstacle.clearance), [twentieth(obstacle.fraction + step) for step in (-SPREAD, 0.0, SPREAD)]
    if obstacle.axis == "z":
        return tuple(Via(at_fraction=each, axis="z", clearance_m=clearance) for each in at[::2])
    return (
        Via(at_fraction=at[1], axis=obstacle.axis, clearance_m=clearance),
        Via(at_fraction=at[1], axis="z", clearance_m=0.05),
    )


def _cm(metres: float) -> float:
    return round(float(np.clip(metres, -0.2, 0.2)), 2)


def twentieth(fraction: float) -> float:
    """To 0.05, and within what an answer may say."""
    return round(round(min(max(fraction, 0.1), 0.9) * 20) / 20, 2)
