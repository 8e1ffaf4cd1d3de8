"""Guides think in a policy's place: a person by marks and words, and in `oracle.py` the simulator's truth or, as its
control, the truth of another scene. All of them are recorded as privileged."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import Chunk, Env, Observation, PrivilegedActor
from volar.core.thoughts import Mark, Thought
from volar.policies.actor import PolicyActor

SHAPES = {"point": 2, "box": 4}  # how many numbers a shape takes: u,v and then width,height
PRIMITIVE = re.compile(r"(\S+)\s+(\S+?)(?:\s+on\s+(\S+))?(?:\s+as\s+(.+))?")
EXAMPLES = "'point 0.4,0.6', 'box 0.4,0.6,0.1,0.1 on front as source', 'point 0.2,0.3 as 1'"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When a guide is asked. stage: gripper events of the episode so far. carried: actions since the last look."""

    stage: int
    carried: Float32[np.ndarray, "n a"]


class Guide(ABC):
    """Somebody who says what a policy is to think. privileged: as of an Actor."""

    privileged: tuple[str, ...] = ()

    @abstractmethod
    def reset(self, seed: int) -> None:
        """A new episode; before `bind`."""

    @abstractmethod
    def bind(self, env: Env) -> None:
        """The episode's world, after its reset."""

    @abstractmethod
    def thought(self, moment: Moment) -> Thought:
        """What is said now; what is not in it, the policy thinks itself."""


class GuidedActor(PrivilegedActor):
    """Final. A policy that reasons, led by a guide. Raises ConfigError for one that does not reason."""

    def __init__(self, actor: PolicyActor, guide: Guide) -> None:
        if actor.policy.reasoner is None:
            raise ConfigError("This policy has no reasoner, so nobody can think in its place.")
        self._actor, self._guide = actor, guide
        self.uses_images = actor.uses_images
        self.privileged = (*actor.privileged, *guide.privileged)

    def reset(self, seed: int) -> None:
        self._actor.reset(seed)
        self._guide.reset(seed)
        self._moment = Moment(stage=0, carried=np.zeros((0, self._actor.policy.robot.action.dim), np.float32))

    def bind(self, env: Env) -> None:
        self._guide.bind(env)

    def act(self, observation: Observation) -> Chunk:
        (chunk,) = self._actor.act_given([0], [observation], [self._guide.thought(self._moment)])
        event = self._actor.recalls[0].event
        self._moment = Moment(stage=self._moment.stage + event, carried=chunk.actions[: chunk.execute])
        return chunk


class ByHand(Guide):
    """Final. What a person says: one thought for each stage, the last one from then on."""

    privileged = ("marks or words that a person gave",)

    def __init__(self, stages: Sequence[Thought]) -> None:
        assert stages
        self._stages = stages

    def reset(self, seed: int) -> None: ...

    def bind(self, env: Env) -> None: ...

    def thought(self, moment: Moment) -> Thought:
        return self._stages[min(moment.stage, len(self._stages) - 1)]


def read_script(primitives: Sequence[str], said: Sequence[str], *, cameras: Sequence[str]) -> tuple[Thought, ...]:
    """One thought for each stage, from texts such as EXAMPLES and 'subtask=grasp the green cube'. Of several points or
    boxes for the next event, and of several texts for one segment, each is for one stage, in their order; marks with a
    number as their role are done once so many events have happened. cameras: the robot's; the only one need not be
    named. Raises ConfigError."""
    marks = [read_primitive(text, cameras=cameras) for text in primitives]
    coming = [mark for mark in marks if mark.role == "next" and not mark.order]
    staying = [mark for mark in marks if mark not in coming]
    words: dict[str, list[str]] = {}
    for text in said:
        segment, equals, value = text.partition("=")
        if not (equals and segment.strip() and value.strip()):
            raise ConfigError(f"What a policy is told is SEGMENT=TEXT, such as 'subtask=grasp the cube'; got {text!r}.")
        words.setdefault(segment.strip(), []).append(value.strip())
    count = max(1, len(coming), *map(len, words.values()), *(mark.order + 1 for mark in staying))
    return tuple(
        Thought(
            words={segment: texts[min(stage, len(texts) - 1)] for segment, texts in words.items()},
            marks=(
                *coming[min(stage, len(coming) - 1) :][:1],
                *(replace(mark, done=0 < mark.order <= stage) for mark in staying),
            ),
        )
        for stage in range(count)
    )  # fmt: skip


def read_primitive(text: str, *, cameras: Sequence[str]) -> Mark:
    """A mark from 'SHAPE NUMBERS [on CAMERA] [as ROLE]', the numbers being fractions of the picture: the centre's u and
    v from the upper left corner, and a box's width and height. Raises ConfigError."""
    found = PRIMITIVE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"A primitive is SHAPE NUMBERS [on CAMERA] [as ROLE], such as {EXAMPLES}; got {text!r}.")
    shape, numbers, camera, role = found.groups()
    if shape not in SHAPES:
        raise unknown_name("shape of a primitive", shape, SHAPES)
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        values = []
    if len(values) != SHAPES[shape]:
        raise ConfigError(
            f"A {shape} takes {SHAPES[shape]} fractions of the picture, joined by commas, such as {EXAMPLES}; got "
            f"{numbers!r}."
        )
    if camera is None and len(cameras) != 1:
        known = f"one of {', '.join(cameras)}" if cameras else "that of the labels it learned from"
        raise ConfigError(f"Say on which camera's picture {text!r} lies, {known}: '{text} on CAMERA'.")
    if camera is not None and cameras and camera not in cameras:
        raise unknown_name("camera", camera, cameras)
    order = int(role) if role is not None and role.isdecimal() else 0
    return Mark(
        camera=camera or cameras[0], centre=(values[0], values[1]),
        size=(values[2], values[3]) if shape == "box" else (0.0, 0.0), role="next" if order else role or "next",
        order=order,
    )  # fmt: skip
