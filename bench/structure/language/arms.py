"""Who acts in the study: one function from the name of an arm to an actor for one episode."""

import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from rules import SPEED, Rules, Scene, Teacher, in_the_way, read_errands, read_scene, too_much

from volar.core.objects import NamedObject
from volar.core.robot import Actor, Chunk, Env, Observation, PrivilegedActor
from volar.envs import make_env, make_expert
from volar.policies.language_primitives import LanguagePrimitives
from volar.policies.perception import SimulatorPerception, naming_world
from volar.reasoning.language.conversation import Exchange
from volar.reasoning.language.following import Patience
from volar.reasoning.language.language_model import Answer, LanguageModel, Message
from volar.reasoning.language.scene_rules import destination
from volar.reasoning.language.scripted_critic import ScriptedJudge

HEEDLESS = Patience(lag=1e6)  # a primitive that does not wait for the hand
BLUR = 0.012  # metres: standard deviation of what blurred perception is off by
HASTY = 0.3  # metres per second; the hand makes 0.2 along an axis
SPEC = make_env("tabletop/push", cameras={}).spec
RAW = {"raw zeros": "zeros", "raw early": "early", "raw by index": "by index", "raw solved": "solved"}
SEMANTIC = ("straight", "vias", "slow vias")


def make(arm: str, seed: int, models: Path, journal: Callable[[Exchange], None] | None = None) -> Actor:
    """arm: parts parted by commas, the way first, then what is otherwise: "vias, heedless". seed: of the episode, for
    models that err. models: folder of trained clones, and of the tuned language model. journal: is told what is asked
    and answered."""
    way, *changes = arm.split(", ")
    if way == "expert":
        return make_expert("tabletop/push")
    if way == "waypoints":
        return Waypoints(seed if "blurred" in changes else None)
    if way.startswith("clone@"):
        from volar.policies.actor import load_policy

        return load_policy(models / way.replace("@", "-"), execute=8)
    raw = way in RAW
    if way in ("teacher", "tuned", "untuned"):
        model = Teacher() if way == "teacher" else language_model(models / way if way == "tuned" else None)
    else:
        speed = HASTY if "hasty" in changes else SPEED
        model = Rules(RAW[way] if raw else way, memory="forgetful" not in changes, speed=speed)
    if "erring" in changes:
        model = Erring(model, seed)
    advice = next((change.split(" of ")[1] for change in changes if " of " in change), None)
    corrections = next((int(change.split(" of ")[0]) for change in changes if " of " in change), 0)
    hasty = "hasty" in changes
    config = LanguagePrimitives.Config(
        raw=raw, decompose="whole" not in changes, corrections=corrections, raw_duration=1.5 if hasty else 4.0,
        execute=4, patience=HEEDLESS if "heedless" in changes else Patience(),
    )  # fmt: skip
    perception = Blurred(seed) if "blurred" in changes else SimulatorPerception()
    workspace = naming_world(make_env("tabletop/push", cameras={})).workspace()
    return LanguagePrimitives(
        config, model, perception, spec=SPEC, workspace=workspace,
        judge=None if advice is None else ScriptedJudge(advice), journal=journal,
    )  # fmt: skip


@cache
def language_model(folder: Path | None) -> LanguageModel:
    """In this process, SmolLM2; folder: of `volar language tune`, None for the weights as they come."""
    from volar.reasoning.language.local_model import local

    return local(folder=None if folder is None else str(folder))


class Blurred(SimulatorPerception):
    """The simulator's word, every thing out of its place by the same error all the episode, as by a detector whose
    camera is not quite where it is thought to be."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def objects(self, observation: Observation) -> Mapping[str, NamedObject]:
        return blurred(super().objects(observation), self._seed)


def blurred(objects: Mapping[str, NamedObject], seed: int) -> Mapping[str, NamedObject]:
    """Off by BLUR in x and y, drawn for each name."""
    errors = np.random.default_rng([seed, 0x626C7572]).normal(0.0, BLUR, (len(objects), 2))
    return {
        name: replace(thing, position=thing.position + np.append(error, 0.0))
        for (name, thing), error in zip(objects.items(), errors, strict=True)
    }


class Erring(LanguageModel):
    """Rules that are wrong in one number of every motion, always in the same, and can be told so in a critic's words.

    Reaches end 2.5 to 4 cm beside or above the thing, or grip before they arrive; carries keep too little clearance.
    """

    def __init__(self, model: LanguageModel, seed: int) -> None:
        self._model, self._seed = model, seed

    def describe(self) -> dict[str, Any]:
        return {**self._model.describe(), "errs": True}

    def answer(self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None) -> Answer:
        """The answers of earlier turns are kept and changed as the correction says."""
        words = messages[1].text.partition("\n")[0]
        if len(messages) > 2 and messages[-2].role == "assistant":
            values = json.loads(messages[-2].text)
            if less := too_much(messages[-1].text):
                return _said(milder(values, less))
            told = next(each.text for each in reversed(messages) if "\nHand: (" in each.text)
            return _said(corrected(values, messages[-1].text, closed=read_scene(told).closed))
        found = self._model.answer(messages, schema=schema)
        values = json.loads(found.text)
        if "goal_object" not in values:
            return found
        random = np.random.default_rng([self._seed, zlib.crc32(words.encode())])
        if words.startswith("Sub-task: reach"):
            values = _wrong_reach(values, random)
        if words.startswith("Sub-task: carry"):
            vias = [via if via["axis"] == "z" else {**via, "clearance_m": round(0.3 * via["clearance_m"], 3)}
                    for via in values.get("vias", [])]  # fmt: skip
            values = {**values, "vias": vias}
        return _said(values)


def _said(values: Mapping[str, Any]) -> Answer:
    return Answer(text=json.dumps(values), read=None, written=None, seconds=0.0)


def _wrong_reach(values: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    kind = random.integers(3)
    if kind == 0:
        opening = [event for event in values["gripper"] if event["event"] == "open"]
        return {**values, "gripper": [*opening, {"event": "close", "at_fraction": 0.3}]}
    offset, metres = [0.0, 0.0, 0.0], round(float(random.uniform(0.025, 0.04)), 3)
    if kind == 1:
        offset[2] = metres
    else:
        angle = random.uniform(0, 2 * np.pi)
        offset[:2] = [round(float(metres * turn), 3) for turn in (np.cos(angle), np.sin(angle))]
    return {**values, "goal_offset_m": offset}


def milder(values: dict[str, Any], metres: float) -> dict[str, Any]:
    """With that much less clearance at every via."""
    vias = [
        {**via, "clearance_m": round(float(np.sign(via["clearance_m"]) * max(abs(via["clearance_m"]) - metres, 0)), 3)}
        for via in values.get("vias", ())
    ]
    return {**values, "vias": vias}


PHASES = {"early in": 0.15, "in the middle of": 0.5, "late in": 0.85}
SHIFT = re.compile(r"\(([xyz]) ([+-]\d+\.\d+) m\) (early in|in the middle of|late in|at the end of) the motion")
TIMING = re.compile(r"(open|close) the gripper (later|earlier)")


def corrected(values: dict[str, Any], words: str, *, closed: bool) -> dict[str, Any]:
    """The parameters as a literal reader of a correction changes them: shifts at the end move the goal, other shifts
    the via points in that part of the motion. closed: the hand is; it is opened where it is to grip."""
    offset, vias = list(values.get("goal_offset_m", (0.0, 0.0, 0.0))), [dict(via) for via in values.get("vias", ())]
    gripper = [dict(event) for event in values.get("gripper", ())]
    for axis, metres, phase in SHIFT.findall(words):
        if phase not in PHASES:
            place = "xyz".index(axis)
            offset[place] = round(offset[place] + float(metres), 3)
            continue
        near = [via for via in vias if via["axis"] == axis and abs(via["at_fraction"] - PHASES[phase]) < 0.25]
        if not near:
            near = [{"at_fraction": PHASES[phase], "axis": axis, "clearance_m": 0.0}]
            vias.append(near[0])
        for via in near:
            via["clearance_m"] = round(via["clearance_m"] + float(metres), 3)
    for event, when in TIMING.findall(words):
        for each in gripper:
            if each["event"] == event:
                each["at_fraction"] = 1.0 if when == "later" else 0.5
    if closed and any(each["event"] == "close" for each in gripper) and len(gripper) == 1:
        gripper.insert(0, {"event": "open", "at_fraction": 0.0})
    return {**values, "goal_offset_m": offset, "vias": vias[-6:], "gripper": gripper}


class Waypoints(PrivilegedActor):
    """Dense way-points for the whole task at once, from the first look (as in arXiv 2310.11604), made by the same rules
    and followed at constant speed: no attractor, no tracking, no second question."""

    privileged = ("simulator state: names, places and sizes of objects",)
    stride, tolerance, patience = 0.008, 0.012, 10  # metres per step and of arrival; steps to wait for it

    def __init__(self, blur: int | None = None) -> None:
        """blur: seed of the perception's error; None for none."""
        self._blur = blur

    def reset(self, seed: int) -> None:
        self._points: list[tuple[Float64[np.ndarray, " 3"], float, int]] | None = None

    def bind(self, env: Env) -> None:
        self._world = naming_world(env)

    def act(self, observation: Observation) -> Chunk:
        hand = observation.proprioception[:3].astype(np.float64)
        if self._points is None:
            objects = self._world.named_objects()
            seen = objects if self._blur is None else blurred(objects, self._blur)
            self._points = dense(seen, hand, observation.instruction)
            self._waited = 0
        point, gripper, hold = self._points[0]
        self._waited += 1
        late = self._waited > max(hold, self.patience)
        if len(self._points) > 1 and (late or (np.linalg.norm(point - hand) < self.tolerance and self._waited >= hold)):
            self._points.pop(0)
            self._waited = 0
        action = SPEC.action.clip(np.append((point - hand) / 0.01, gripper))
        return Chunk(actions=action[None], execute=1, evaluations=0)


def dense(
    objects: Mapping[str, NamedObject], hand: Float64[np.ndarray, " 3"], task: str
) -> list[tuple[Float64[np.ndarray, " 3"], float, int]]:
    """Points, the gripper's command at each, and the steps to stay there."""
    points: list[tuple[Float64[np.ndarray, " 3"], float, int]] = []
    for errand in read_errands(task, objects):
        thing = objects[errand.thing].position
        goal = objects[errand.place].position + destination(errand, objects)
        above, over = thing + np.array([0, 0, 0.07]), goal + np.array([0, 0, 0.08])
        for a, b in ((hand, above), (above, thing)):
            points += [(point, -1.0, 0) for point in _line(a, b)]
        points.append((thing, 1.0, 10))
        corners = [thing, above, *_around(objects, above, over, errand.place, errand.thing), over, goal]
        for a, b in pairwise(corners):
            points += [(point, 1.0, 0) for point in _line(a, b)]
        points.append((goal, -1.0, 10))
        points += [(point, -1.0, 0) for point in _line(goal, over)]
        hand = over
        objects = {**objects, errand.thing: NamedObject(position=goal, size=objects[errand.thing].size)}
    return points


def _line(a: Float64[np.ndarray, " 3"], b: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, "n 3"]:
    count = max(int(np.ceil(np.linalg.norm(b - a) / Waypoints.stride)), 1)
    return a + np.linspace(0, 1, count + 1)[1:, None] * (b - a)


def _around(
    objects: Mapping[str, NamedObject], a: Float64[np.ndarray, " 3"], b: Float64[np.ndarray, " 3"], place: str,
    thing: str,
) -> list[Float64[np.ndarray, " 3"]]:  # fmt: skip
    others = {name: each for name, each in objects.items() if name != thing}
    passing = in_the_way(Scene(objects=others, hand=a, closed=True), b, place)
    if passing is None:
        return []
    aside = np.zeros(3)
    aside[passing.axis] = passing.side
    ends = [float(np.clip(passing.fraction + sign * passing.half, 0.0, 1.0)) for sign in (-1, 1)]
    return [a + share * (b - a) + aside for share in ends]
