"""A language model that is none: it reads the prompts of `reasoning.prompts` and answers by geometry, always the same.

It stands in for a model where a claim is about the interface between words and motion and not about who speaks. `way`
is how it leads what is carried past an obstacle; everything else is the same in all.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from weights import GRIP_LATE, REACH_ROW, bent_weights

from volar.core.errors import ConfigError
from volar.core.objects import NamedObject
from volar.reasoning.language.compact_prompts import (
    NOTHING,
    NOTHING_LEFT,
    parameters_answer,
    parts_of,
    subtask_answer,
)
from volar.reasoning.language.language_model import Answer, LanguageModel, Message
from volar.reasoning.language.motion_request import MotionRequest, Via
from volar.reasoning.language.prompts import DECOMPOSE, WEIGHTS, SubTask
from volar.reasoning.language.scene_rules import Errand, Relation, next_subtask, parameters

Way = Literal["straight", "vias", "slow vias", "zeros", "early", "by index", "solved"]
ERRAND = re.compile(r"put the ([a-z ]+?) (onto|into|in|on) the ([a-z ]+?)(?= without|,|$)")
LINE = re.compile(r"^- (.+): centre \((.+)\) m, size \((.+)\) m$", re.MULTILINE)
BROAD = 0.1  # metres, half a width: what is broader is passed above
BESIDE = 0.042  # metres beside an obstacle at which hand and load pass
LENGTHWISE = 0.04  # metres before and behind it
SPEED, SLOW = 0.2, 0.1  # metres per second
# The short prompts, in whole centimetres.
SHORT = re.compile(r"^(?!hand )(.+?) (-?\d+ -?\d+ -?\d+), (\d+ \d+ \d+)(?:, at .+)?$", re.MULTILINE)
HAND = re.compile(r"^hand (-?\d+ -?\d+ -?\d+) (?:holds (.+)|closed|open)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """As the prompt tells it."""

    objects: Mapping[str, NamedObject]
    hand: Float64[np.ndarray, " 3"]
    closed: bool


@dataclass(frozen=True, kw_only=True)
class Passing:
    """An obstacle between hand and goal. fraction: of the straight way, at its centre; half: to each side of that.
    side: signed metres off the straight way, along the axis."""

    fraction: float
    half: float
    axis: int
    side: float


class Rules(LanguageModel):
    """memory: whether it reads what the prompt says is finished. speed: of carries, metres per second."""

    def __init__(self, way: Way, *, memory: bool = True, speed: float = SPEED) -> None:
        self._way, self._memory, self._speed = way, memory, speed

    def describe(self) -> dict[str, Any]:
        return {"model": "rules", "way": self._way, "memory": self._memory}

    def answer(self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None) -> Answer:
        system, text = messages[0].text, messages[1].text
        scene = read_scene(text)
        if system == DECOMPOSE:
            said = subtask_answer(self._subtask(text, scene))
        elif system == WEIGHTS:
            said = self._weights(_chosen(text, scene), scene)
        else:
            chosen = _chosen(text, scene) if text.startswith("Sub-task:") else self._subtask(text, scene)
            done, less = chosen.subtask == "done", sum(too_much(each.text) for each in messages[2:])
            said = '{"done": true}' if done else parameters_answer(_milder(self.request(chosen, scene), less))
        return Answer(text=said, read=None, written=None, seconds=0.0)

    def _subtask(self, text: str, scene: Scene) -> SubTask:
        errands = read_errands(text.partition("\n")[0], scene.objects)
        released = 0
        if self._memory:
            lines = re.findall(r"^- (?:release .*|to .*open gripper)$", text, re.MULTILINE)
            released = len([line for line in lines if not line.endswith("close gripper")])
        here = {"objects": scene.objects, "hand": scene.hand, "closed": scene.closed}
        if released < len(errands) and self._memory:
            # The first that was not let go yet, even if it lies there by chance.
            return next_subtask(errands[released : released + 1], **here)
        last = {errand.thing: errand for errand in errands}
        return next_subtask(list(last.values()), **here)

    def request(self, chosen: SubTask, scene: Scene) -> MotionRequest:
        """In metres."""
        found = parameters(chosen, scene.objects, scene.hand, closed=scene.closed)
        if chosen.subtask != "carry":
            return found
        goal = scene.objects[chosen.object].position + np.array(found.goal_offset_m)
        passing = in_the_way(scene, goal, chosen.object)
        lift = Via(at_fraction=0.1, axis="z", clearance_m=0.04)
        if passing is None or self._way == "straight":
            return replace(found, speed_m_s=self._speed, vias=(lift, Via(at_fraction=0.9, axis="z", clearance_m=0.04)))
        vias = vias_past(passing, lift)
        return replace(found, speed_m_s=SLOW if self._way == "slow vias" else self._speed, vias=vias)

    def _weights(self, chosen: SubTask, scene: Scene) -> str:
        rows, height = np.zeros((5, 11)), 0.0
        if chosen.subtask == "reach":
            rows[2], rows[4] = REACH_ROW, GRIP_LATE
        if chosen.subtask == "carry":
            errand = parameters(chosen, scene.objects, scene.hand, closed=scene.closed)
            height = max(errand.goal_offset_m[2], 0.0)
            goal = scene.objects[chosen.object].position + np.array([0.0, 0.0, height])
            rows[:3] = bent_weights(self._way, scene.hand, goal, in_the_way(scene, goal, chosen.object))
        numbers = [[round(float(number), 3) for number in row] for row in rows]
        return json.dumps({"weights": numbers, "angle": 0, "height": round(height, 3)})


class Teacher(LanguageModel):
    """The rules that taught the tuned model, told no more than it is: the short prompts."""

    compact = True

    def describe(self) -> dict[str, Any]:
        return {"model": "teacher"}

    def answer(self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None) -> Answer:
        text = messages[0].text  # complaints after it change nothing
        scene, lines = _short_scene(text), text.splitlines()
        kind, said = lines[-1].split(": ", 1)
        here = {"objects": scene.objects, "hand": scene.hand, "closed": scene.closed}
        if kind == "do":
            words, _, note = said.partition(": ")
            name = words.partition(" ")
            chosen = SubTask(subtask=name[0], object=name[2], note=note)  # pyright: ignore[reportArgumentType]
        else:
            kind, task = lines[-3].split(": ", 1)
            parts = [*parts_of(task), NOTHING]
            left = ", then ".join(parts[parts.index(said) :])  # the first of those that are alike
            chosen = next_subtask(read_errands(left, scene.objects), **here)
        if kind == "task":
            found = subtask_answer(chosen)
        else:
            found = NOTHING_LEFT if chosen.subtask == "done" else parameters_answer(parameters(chosen, **here))
        return Answer(text=found, read=None, written=None, seconds=0.0)


def _short_scene(text: str) -> Scene:
    objects = {
        name: NamedObject(position=_centimetres(centre), size=_centimetres(size))
        for name, centre, size in SHORT.findall(text)
    }
    place, held = HAND.findall(text)[0]
    hand = _centimetres(place)
    if held:  # nearer than whole centimetres can tell
        objects[held] = NamedObject(position=hand, size=objects[held].size)
    return Scene(objects=objects, hand=hand, closed=bool(held) or f"hand {place} closed" in text)


def _centimetres(text: str) -> Float64[np.ndarray, " 3"]:
    return np.array([int(number) for number in text.split(" ")]) / 100


def too_much(complaint: str) -> float:
    """Metres to ask for less, if the complaint is that a plan's wishes miss one another."""
    found = re.search(r"cannot all hold; a compromise misses each by ([\d.]+) cm", complaint)
    return float(found[1]) / 100 + 0.005 if found else 0.0


def _milder(request: MotionRequest, metres: float) -> MotionRequest:
    vias = [
        replace(via, clearance_m=float(np.sign(via.clearance_m) * max(abs(via.clearance_m) - metres, 0.0)))
        for via in request.vias
    ]
    return replace(request, vias=tuple(vias))


def read_scene(text: str) -> Scene:
    """Raises ConfigError for a prompt without a scene."""
    hand = re.findall(r"^Hand: \((.+)\) m, gripper (closed|open)\.$", text, re.MULTILINE)
    if not hand:
        raise ConfigError("There is no hand in this prompt.")
    return Scene(
        objects={
            name: NamedObject(position=_numbers(centre), size=_numbers(size))
            for name, centre, size in LINE.findall(text)
        },
        hand=_numbers(hand[-1][0]),
        closed=hand[-1][1] == "closed",
    )


def read_errands(task: str, objects: Mapping[str, NamedObject]) -> list[Errand]:
    """Of an instruction, in its order; a name may be the end of an object's."""
    relations: dict[str, Relation] = {"onto": "on", "on": "on", "into": "in", "in": "in"}
    return [
        Errand(thing=_named(thing, objects), place=_named(place, objects), relation=relations[word])
        for thing, word, place in ERRAND.findall(task)
    ]


def _named(words: str, objects: Mapping[str, NamedObject]) -> str:
    return next((name for name in objects if name == words or name.endswith(f" {words}")), words)


def _numbers(text: str) -> Float64[np.ndarray, " n"]:
    return np.array([float(number) for number in text.split(", ")])


def _chosen(text: str, scene: Scene) -> SubTask:
    """What `prompts` made of the sub-task that was chosen: "Sub-task: carry yellow region. on"."""
    words, _, note = text.partition("\n")[0].removeprefix("Sub-task: ").partition(". ")
    kind, _, name = words.rstrip(".").partition(" ")
    return SubTask(subtask=kind, object=name, note=note)  # pyright: ignore[reportArgumentType]


def in_the_way(scene: Scene, goal: Float64[np.ndarray, " 3"], place: str) -> Passing | None:
    """The highest thing that a straight way at half its height would touch."""
    way = (goal - scene.hand)[:2]
    length, axis = float(np.linalg.norm(way)), int(abs(way[0]) >= abs(way[1]))
    found, top = None, 0.05
    for name, thing in scene.objects.items():
        offset = (thing.position - scene.hand)[:2]
        fraction = float(offset @ way) / max(length, 1e-6) ** 2
        off, broad = float((offset - fraction * way)[axis]), float(thing.size[axis]) / 2
        if name == place or not 0.02 < fraction < 0.98 or abs(off) > broad + BESIDE or thing.size[2] <= top:
            continue
        top, half = float(thing.size[2]), (float(thing.size[1 - axis]) / 2 + LENGTHWISE) / length
        if broad > BROAD:
            found = Passing(fraction=fraction, half=half, axis=2, side=top + 0.05 - float(scene.hand[2]))
        else:
            # Towards the middle of the table, where there is room.
            side = -1.0 if float(scene.hand[axis] + goal[axis]) > 0 else 1.0
            found = Passing(fraction=fraction, half=half, axis=axis, side=side * (broad + BESIDE) + off)
    return found


def vias_past(passing: Passing, lift: Via) -> tuple[Via, ...]:
    # Not sooner than half way to it: being aside at once is more than a motion from rest can do.
    low = max(0.05, passing.fraction / 2)
    shares = [float(np.clip(passing.fraction + step * passing.half, low, 0.95)) for step in (-1, 0, 1)]
    metres = float(np.clip(passing.side, -0.2, 0.2))
    past = tuple(
        Via(at_fraction=round(share, 3), axis=("x", "y", "z")[passing.axis], clearance_m=round(metres, 3))
        for share in dict.fromkeys(shares)
    )
    return past if passing.axis == 2 else (lift, *past)
