"""Language Movement Primitives (arXiv 2602.02839): a policy without training. Perceive, choose a sub-task, let a
language model set the parameters of a movement primitive, follow it while its goal is tracked, settle, go on."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, Float64

from volar.core.errors import ConfigError, EpisodeError
from volar.core.objects import NamedObject, NamingWorld
from volar.core.robot import ActionSpec, Chunk, Env, Observation, PrivilegedActor, RobotSpec
from volar.nn.primitives.constrained import Box
from volar.reasoning import motion_request, raw_weights
from volar.reasoning.following import Follower, Patience
from volar.reasoning.language_model import LanguageModel, Message
from volar.reasoning.motion_plan import MotionPlan, plan_raw, plan_request
from volar.reasoning.prompts import SUBTASK_SCHEMA, SubTask, ask_parameters, ask_subtask, read_subtask, scene_words

Read = TypeVar("Read")
METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
HAND = ("hand_x", "hand_y", "hand_z")


class Perception(ABC):
    """Who says what stands where. privileged: what it uses that a robot would not have."""

    privileged: tuple[str, ...] = ()
    uses_images: bool = True

    def bind(self, env: Env) -> None:  # noqa: B027, for those that look at pictures only
        """Called at the beginning of an episode."""

    @abstractmethod
    def objects(self, observation: Observation) -> Mapping[str, NamedObject]: ...


class SimulatorPerception(Perception):
    """The simulator's own word."""

    privileged = ("simulator state: names, places and sizes of objects",)
    uses_images = False

    def bind(self, env: Env) -> None:
        world = env.unwrapped
        if not isinstance(world, NamingWorld):
            raise ConfigError(f"{type(world).__name__} does not name its objects, so language cannot refer to them.")
        self._world = world

    def objects(self, observation: Observation) -> Mapping[str, NamedObject]:
        return self._world.named_objects()


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One question to the model. tokens: None where nobody counted. complaint: what was wrong with the answer."""

    asked: str
    answer: str
    read: int | None
    written: int | None
    seconds: float
    complaint: str = ""
    clamped: tuple[str, ...] = ()


class LanguagePrimitives(PrivilegedActor):
    """Final. When the model gives no answer that can be used, the hand holds still until time is up: the episode is the
    policy's failure, and the run goes on.

    journal: is told every exchange with the model.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """raw: published weights instead of metres. decompose: ask for one sub-task at a time first. attempts: answers
        that may be unusable, in a row. most_motions: in one episode. execute: control steps between looks.
        raw_duration: seconds of a motion by weights, which do not say how long. patience: at the end of a motion."""

        raw: bool = False
        decompose: bool = True
        attempts: int = 3
        most_motions: int = 40
        execute: int = 2
        raw_duration: float = 4.0
        patience: Patience = field(default_factory=Patience)

        def __post_init__(self) -> None:
            if self.attempts < 1 or self.execute < 1 or self.most_motions < 1:
                raise ConfigError(f"attempts, execute and most_motions must be at least 1; got {self}.")
            if self.raw and not self.decompose:
                raise ConfigError("Raw weights name no goal object, so they need decompose=True, which does.")

    def __init__(
        self, config: Config, model: LanguageModel, perception: Perception, *, spec: RobotSpec, box: Box,
        journal: Callable[[Exchange], None] | None = None, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.config, self._model, self._perception, self._box = config, model, perception, box
        self.privileged, self.uses_images = perception.privileged, perception.uses_images
        self._action, self._hand = _require(spec), [spec.proprioception.index(name) for name in HAND]
        self._journal, self._clock = journal, clock
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._follower: Follower | None = None
        self._closed, self._given_up, self._calls = False, False, 0
        self._finished: list[str] = []

    def bind(self, env: Env) -> None:
        self._perception.bind(env)

    def act(self, observation: Observation) -> Chunk:
        began, self._calls = self._clock(), 0
        hand = observation.proprioception[self._hand].astype(np.float64)
        objects = self._perception.objects(observation)
        if self._follower is not None and self._follower.finished:
            self._follower = None
        if self._follower is None and not self._given_up:
            self._choose(observation.instruction, hand, objects)
        actions = self._actions(hand, objects)
        latency = self._clock() - began
        return Chunk(actions=actions, execute=self.config.execute, evaluations=self._calls, latency=latency)

    def _actions(
        self, hand: Float64[np.ndarray, " 3"], objects: Mapping[str, NamedObject]
    ) -> Float32[np.ndarray, "h a"]:
        """For `execute` steps; the hand is taken to follow. Holds still without a motion."""
        unit, absolute = METRES[self._action.units[0]], self._action.control == "absolute_position"
        closes = 1.0 if self._action.gripper == "positive_closes" else -1.0
        rows = []
        for _ in range(self.config.execute):
            there = hand
            if self._follower is not None:
                plan = self._follower.plan
                there = self._follower.step(hand, plan.goal(objects), 1 / self._action.rate_hz)
                self._closed = self._follower.closed
            move = (there if absolute else there - hand) / unit
            sent = self._action.clip(np.append(move, closes if self._closed else -closes))
            hand = there if absolute else hand + unit * sent[:3]
            rows.append(sent)
        return np.stack(rows)

    def _choose(self, task: str, hand: Float64[np.ndarray, " 3"], objects: Mapping[str, NamedObject]) -> None:
        """The next motion; without one the hand holds still from now on."""
        scene = scene_words(objects, hand.tolist(), closed=self._closed, box=self._box)
        plan = None
        if len(self._finished) < self.config.most_motions:
            try:
                step = self._by_subtask if self.config.decompose else self._whole
                plan = step(task, scene, hand, objects)
            except EpisodeError:
                plan = None
        self._given_up = plan is None
        self._follower = None if plan is None else Follower(plan, self.config.patience, closed=self._closed)

    def _by_subtask(
        self, task: str, scene: str, hand: Float64[np.ndarray, " 3"], objects: Mapping[str, NamedObject]
    ) -> MotionPlan | None:
        asked = ask_subtask(task, scene, self._finished)
        chosen = self._ask(asked, SUBTASK_SCHEMA, lambda text: read_subtask(text, objects))
        if chosen.subtask == "done":
            return None
        words = f"{chosen.subtask} {chosen.object}. {chosen.note}".strip()
        asked = ask_parameters(words, scene, raw=self.config.raw, whole=False, finished=())
        if self.config.raw:
            plan = self._ask(asked, raw_weights.SCHEMA, lambda text: self._raw_plan(text, chosen, hand, objects))
        else:
            plan = self._ask(asked, motion_request.SCHEMA, lambda text: self._semantic_plan(text, hand, objects))
        self._finished.append(f"{chosen.subtask} {chosen.object}")
        return plan

    def _whole(
        self, task: str, scene: str, hand: Float64[np.ndarray, " 3"], objects: Mapping[str, NamedObject]
    ) -> MotionPlan | None:
        asked = ask_parameters(task, scene, raw=False, whole=True, finished=self._finished)

        def read(text: str) -> MotionPlan | None:
            if motion_request.first_object(text).get("done") is True:
                return None
            return self._semantic_plan(text, hand, objects)

        plan = self._ask(asked, None, read)
        if plan is not None:
            acts = "".join(f", {'close' if act.closes else 'open'} gripper" for act in plan.gripper)
            self._finished.append(f"to {plan.goal_object}{acts}")
        return plan

    def _semantic_plan(
        self, text: str, hand: Float64[np.ndarray, " 3"], objects: Mapping[str, NamedObject]
    ) -> MotionPlan:
        found = motion_request.read_request(text, objects)
        self._clamped = found.clamped
        return plan_request(found.request, hand, objects, self._box)

    def _raw_plan(
        self, text: str, chosen: SubTask, hand: Float64[np.ndarray, " 3"], objects: Mapping[str, NamedObject]
    ) -> MotionPlan:
        found = raw_weights.read_weights(text)
        closes, duration = chosen.subtask != "release", self.config.raw_duration
        return plan_raw(found, chosen.object, hand, objects, self._box, closes=closes, duration=duration)

    def _ask(self, asked: list[Message], schema: Mapping[str, Any] | None, read: Callable[[str], Read]) -> Read:
        """What `read` makes of the answer; what is wrong with one goes back to the model. Raises EpisodeError when
        there is no usable one."""
        complaint = ""
        for _ in range(self.config.attempts):
            self._clamped: tuple[str, ...] = ()
            self._calls += 1
            answer = self._model.answer(asked, schema=schema)
            try:
                found, complaint = read(answer.text), ""
            except ConfigError as error:
                found, complaint = None, str(error)
            if self._journal is not None:
                self._journal(
                    Exchange(
                        asked=asked[-1].text, answer=answer.text, read=answer.read, written=answer.written,
                        seconds=answer.seconds, complaint=complaint, clamped=self._clamped,
                    )
                )  # fmt: skip
            if not complaint:
                return found  # pyright: ignore[reportReturnType]
            asked = [*asked, Message(role="assistant", text=answer.text), Message(role="user", text=complaint)]
        raise EpisodeError(f"No usable answer in {self.config.attempts} attempts; the last one: {complaint}")


def _require(spec: RobotSpec) -> ActionSpec:
    """The spec's action, if a hand can be led by it. Raises ConfigError."""
    action, units = spec.action, set(spec.action.units[:3])
    if action.names != ("x", "y", "z", "gripper") or action.control not in ("delta_position", "absolute_position"):
        raise ConfigError(
            f"Movement primitives lead a hand by x, y, z and gripper, as position or change of position; this robot "
            f"takes {action.names} as {action.control}."
        )
    if len(units) != 1 or not units <= METRES.keys() or action.gripper == "none":
        raise ConfigError(f"Lengths must be in one of {', '.join(METRES)} and the gripper's sign known; got {action}.")
    if missing := [name for name in HAND if name not in spec.proprioception]:
        raise ConfigError(f"Proprioception must hold {', '.join(HAND)} in metres; {', '.join(missing)} are missing.")
    return action
