"""The questions of `prompts` in as few tokens as a small model on a processor bears: whole centimetres, no rules.

What takes arithmetic is told in words: what is held, what lies where, what stands in the way of what is held, and which
part of the task is next. Which of it matters, and what to do, is the model's. Only a model that was tuned on exactly
these words understands them; `train.language` makes one.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
from jaxtyping import Float64

from volar.core.objects import NamedObject
from volar.reasoning.language.language_model import Message
from volar.reasoning.language.motion_request import GripperEvent, MotionRequest, Via
from volar.reasoning.language.prompts import SubTask
from volar.reasoning.language.scene_rules import THERE, blocking, holds, side_of, twentieth

THEN = re.compile(r"(?:[,;.]?\s+(?:and\s+)?|[,;.]\s*)then,?\s+(?!\w+\s+it\b)", re.IGNORECASE)
NOTHING = "nothing"  # that is left to do, or was done
RELEASED = re.compile(r"release |to .+open gripper$")  # among motions that are finished


def scene_text(objects: Mapping[str, NamedObject], hand: Float64[np.ndarray, " 3"], *, closed: bool) -> str:
    """A line per thing: centre, size, and on which other one it lies. Then the hand, and for every goal whose straight
    way from it is blocked: by what, at which share, and how far aside or up that is passed."""
    lines = [
        f"{name} {_cm(thing.position)}, {_cm(thing.size)}{_lies(name, objects)}" for name, thing in objects.items()
    ]
    near = [name for name in objects if holds(name, objects, hand, closed=closed)]
    held = min(near, key=lambda name: float(np.linalg.norm(objects[name].position - hand)), default=None)
    doing = f"holds {held}" if held else "closed" if closed else "open"
    ways = [] if held is None else [_way(name, held, objects, hand) for name in objects if name != held]
    return "\n".join([*lines, f"hand {_cm(hand)} {doing}", *filter(None, ways)])


def _lies(name: str, objects: Mapping[str, NamedObject]) -> str:
    """Of what stands at the same place the lower is the place."""
    here = objects[name].position
    for other, place in objects.items():
        near = float(np.linalg.norm((place.position - here)[:2])) < THERE
        if other != name and near and place.position[2] <= here[2] and place.size[2] < objects[name].size[2] + THERE:
            return f", at {other}"
    return ""


def _way(goal: str, held: str, objects: Mapping[str, NamedObject], hand: Float64[np.ndarray, " 3"]) -> str:
    obstacle = blocking(objects, hand, objects[goal].position, {goal, held})
    if obstacle is None:
        return ""
    sides = ", ".join(f"{abs(round(100 * each))} {side_of(obstacle, each)}" for each in obstacle.clearances)
    return f"way to {goal}: {obstacle.name} at {twentieth(obstacle.fraction)}, {sides}"


def subtask_question(scene: str, task: str, finished: Sequence[str]) -> list[Message]:
    return [Message(role="user", text=f"{scene}\ntask: {_so_far(task, finished)}")]


def whole_question(scene: str, task: str, finished: Sequence[str]) -> list[Message]:
    """For the next motion at once, without a sub-task first."""
    return [Message(role="user", text=f"{scene}\nmove: {_so_far(task, finished)}")]


def _so_far(task: str, finished: Sequence[str]) -> str:
    """The task, the last motion, and the part of the task that is next, each part being one thing to let go."""
    released = sum(bool(RELEASED.match(each)) for each in finished)
    last = finished[-1].partition(" (")[0] if finished else NOTHING
    return f"{task}\nlast: {last}\nnow: {(*parts_of(task)[released:], NOTHING)[0]}"


def parts_of(task: str) -> list[str]:
    """What is to be done one after the other: cut at every "then", unless "put it ..." follows."""
    return [part.strip() for part in THEN.split(task) if part.strip()]


def parameters_question(scene: str, chosen: SubTask) -> list[Message]:
    note = f": {chosen.note}" if chosen.note else ""
    return [Message(role="user", text=f"{scene}\ndo: {chosen.subtask} {chosen.object}{note}")]


def subtask_answer(chosen: SubTask) -> str:
    return json.dumps({"subtask": chosen.subtask, "object": chosen.object, "note": chosen.note})


def parameters_answer(request: MotionRequest) -> str:
    """Without what is as it is by default."""
    return json.dumps(_spare(request))


NOTHING_LEFT = json.dumps({"done": True})  # the answer to `whole_question` in the end


def _spare(part: MotionRequest | Via | GripperEvent) -> dict[str, Any]:
    found = {}
    for each in fields(part):
        value = getattr(part, each.name)
        if each.default is MISSING or value != each.default:
            found[each.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Via | GripperEvent):
        return _spare(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value == int(value) else value


def _cm(metres: Any) -> str:
    return " ".join(str(round(100 * float(each))) for each in metres)
