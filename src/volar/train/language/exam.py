"""How well a language model answers lessons that it has not seen: in form, right object, right sub-task, right side of
what stands in the way, and centimetres of the offset. It moves nothing; that is for `volar evaluate`."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from volar.core.errors import ConfigError
from volar.core.objects import Workspace
from volar.nn.primitives.constrained import Box
from volar.reasoning.language import motion_request
from volar.reasoning.language.language_model import LanguageModel, Message
from volar.reasoning.language.motion_plan import plan_request
from volar.reasoning.language.motion_request import MotionRequest, read_request, with_names
from volar.reasoning.language.prompts import (
    SUBTASK_SCHEMA,
    SubTask,
    ask_parameters,
    ask_subtask,
    read_subtask,
    scene_words,
)
from volar.train.language.lessons import Lesson, Question, lesson
from volar.train.language.scenes import UNHEARD

SPACE = Workspace(low=(-0.25, -0.25, 0.01), high=(0.25, 0.25, 0.25))
BOX = Box(low=np.array(SPACE.low), high=np.array(SPACE.high))
EXAM_SEEDS = 1 << 40  # lessons from here on are never trained on
AROUND = 0.08  # metres: a clearance from here on is for something in the way, a smaller one lifts the hand


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Of one answer. form: it can be read, and its motion can be made. object, subtask, gripper: as they should be.
    side: passes what is in the way over or beside as it should, None where nothing is. calm: sees nothing in the way,
    None where something is. offset_cm: from the right one. None: not asked for, or not to be read."""

    form: bool
    object: bool = False
    subtask: bool | None = None
    gripper: bool | None = None
    side: bool | None = None
    calm: bool | None = None
    offset_cm: float | None = None
    read: int | None = None
    written: int | None = None
    seconds: float = 0.0


def exam_lessons(count: int) -> dict[str, list[Lesson]]:
    """Tables that no lesson has; then with things that it never named, and with phrases that it never used. Sub-tasks
    and their motions are asked for, motions of whole tasks are not."""
    seeds = range(EXAM_SEEDS, EXAM_SEEDS + count)
    parts = {
        "new tables": [lesson(seed) for seed in seeds],
        "new words": [lesson(seed, UNHEARD) for seed in seeds],
        "new phrases": [lesson(seed, kept_back=True) for seed in seeds],
    }
    return {part: [_stepwise(each) for each in lessons] for part, lessons in parts.items()}


def _stepwise(studied: Lesson) -> Lesson:
    return replace(studied, questions=tuple(each for each in studied.questions if not each.whole))


@cache
def worked(kind: type, count: int) -> tuple[Question, ...]:
    """Examples out of the lessons with answers of that kind, no two of a sort."""
    found: dict[Any, Question] = {}
    for seed in range(200):
        for each in _stepwise(lesson(seed)).questions:
            if isinstance(each.right, kind) and len(found) < count:
                found.setdefault(_sort(each.right), each)
    return tuple(found.values())


def _sort(right: SubTask | MotionRequest) -> Any:
    if isinstance(right, SubTask):
        return right.subtask, "pass" in right.note
    return frozenset(_around(right)), bool(right.gripper)


def sit(
    model: LanguageModel, studied: Lesson, question: Question, *, held: bool = True, shots: Sequence[Question] = ()
) -> Mark:
    """held: to the schema and the table's names. shots: worked questions before this one, in the short prompts; without
    any, a model that is not `compact` gets the long prompts with all rules."""
    objects = studied.table.objects
    names = [*objects, ""] if isinstance(question.right, SubTask) else list(objects)
    schema = SUBTASK_SCHEMA if isinstance(question.right, SubTask) else motion_request.SCHEMA
    key = "object" if isinstance(question.right, SubTask) else "goal_object"
    asked = _asked(model, studied, question, shots)
    answer = model.answer(asked, schema=with_names(schema, key, names) if held else None)
    told = {"read": answer.read, "written": answer.written, "seconds": answer.seconds}
    try:
        if isinstance(question.right, SubTask):
            return _subtask_mark(question.right, read_subtask(answer.text, objects), told)
        found = read_request(answer.text, objects).request
        plan_request(found, studied.table.hand, objects, BOX)
        return _request_mark(question.right, found, told)
    except ConfigError:
        mark = _subtask_mark if isinstance(question.right, SubTask) else _request_mark
        return mark(question.right, None, told)  # pyright: ignore[reportArgumentType]


def _asked(model: LanguageModel, studied: Lesson, question: Question, shots: Sequence[Question]) -> list[Message]:
    if model.compact or shots:
        turns = [(*each.asked, Message(role="assistant", text=each.answer)) for each in shots]
        return [*(message for turn in turns for message in turn), *question.asked]
    table = studied.table
    scene = scene_words(table.objects, table.hand.tolist(), closed=table.closed, workspace=SPACE)
    if isinstance(question.right, SubTask):
        return ask_subtask(question.said, scene, ())
    return ask_parameters(question.said, scene, raw=False, whole=False, finished=())


def _subtask_mark(right: SubTask, found: SubTask | None, told: Mapping[str, Any]) -> Mark:
    passing = right.note.partition(", pass ")[2]
    passes = None if found is None else found.note.partition(", pass ")[2]
    carries = right.subtask == "carry"
    return Mark(
        form=found is not None,
        object=found is not None and (found.object == right.object or right.subtask == "done"),
        subtask=found is not None and found.subtask == right.subtask,
        side=passes == passing if carries and passing else None,
        calm=passes == "" if carries and not passing else None,
        **told,
    )


def _request_mark(right: MotionRequest, found: MotionRequest | None, told: Mapping[str, Any]) -> Mark:
    passing, passes = _around(right), None if found is None else _around(found)
    apart = None if found is None else np.subtract(found.goal_offset_m, right.goal_offset_m)
    return Mark(
        form=found is not None,
        object=found is not None and found.goal_object == right.goal_object,
        gripper=found is not None and found.gripper == right.gripper,
        side=passes == passing if passing else None,
        calm=None if passing else passes == set(),
        offset_cm=None if apart is None else 100 * float(np.linalg.norm(apart)),
        **told,
    )


def _around(request: MotionRequest) -> set[tuple[str, bool]]:
    """Axis and sign of every clearance that is more than a lift."""
    wide = [via for via in request.vias if abs(via.clearance_m) >= AROUND or via.axis != "z"]
    return {(via.axis, via.clearance_m > 0) for via in wide}


def summary(marks: Sequence[Mark]) -> dict[str, Any]:
    """Shares of the answers that were asked for it, with how many those are; an answer without form has nothing right.
    offset_cm: median of those in form."""
    found: dict[str, Any] = {"questions": len(marks), "form": _share([mark.form for mark in marks])}
    for key in ("object", "subtask", "gripper", "side", "calm"):
        found[key] = _share([vars(mark)[key] for mark in marks if vars(mark)[key] is not None])
    offsets = [mark.offset_cm for mark in marks if mark.offset_cm is not None]
    found["offset_cm"] = round(statistics.median(offsets), 2) if offsets else None
    for key in ("read", "written", "seconds"):
        counts = [vars(mark)[key] for mark in marks if vars(mark)[key] is not None]
        found[key] = round(statistics.mean(counts), 1) if counts else None
    return found


def _share(right: Sequence[bool]) -> dict[str, int]:
    return {"right": sum(right), "of": len(right)}
