"""The two questions of `prompts` in as few tokens as a small model on a processor bears: whole centimetres, no rules.

Only a model that was tuned on exactly these words understands them; `train.language` makes one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from volar.core.objects import NamedObject
from volar.reasoning.language.language_model import Message
from volar.reasoning.language.motion_request import GripperEvent, MotionRequest, Via
from volar.reasoning.language.prompts import SubTask


def scene_text(objects: Mapping[str, NamedObject], hand: Sequence[float], *, closed: bool) -> str:
    """A line per thing: centre and size; then the hand."""
    lines = [f"{name} {_cm(thing.position)}, {_cm(thing.size)}" for name, thing in objects.items()]
    return "\n".join([*lines, f"hand {_cm(hand)} {'closed' if closed else 'open'}"])


def subtask_question(scene: str, task: str, finished: Sequence[str]) -> list[Message]:
    """Of what is finished, the last is told: whether a thing has arrived is hard to see in numbers."""
    last = finished[-1].partition(" (")[0] if finished else "nothing"
    return [Message(role="user", text=f"{scene}\nlast: {last}\ntask: {task}")]


def parameters_question(scene: str, chosen: SubTask) -> list[Message]:
    note = f": {chosen.note}" if chosen.note else ""
    return [Message(role="user", text=f"{scene}\ndo: {chosen.subtask} {chosen.object}{note}")]


def subtask_answer(chosen: SubTask) -> str:
    return json.dumps({"subtask": chosen.subtask, "object": chosen.object, "note": chosen.note})


def parameters_answer(request: MotionRequest) -> str:
    """Without what is as it is by default."""
    return json.dumps(_spare(request))


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
