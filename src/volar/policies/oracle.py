"""Guides that know the truth: what the labels of a demonstration would say at this moment, found by trying a scripted
expert ahead in the simulator; and the control that says the truth of another scene and moment instead.

Neither changes the episode: the world is put back as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from scipy.spatial.transform import Rotation

from volar.core.calibration import CalibratedWorld, Calibration
from volar.core.errors import ConfigError
from volar.core.objects import NamedObject, NamingWorld
from volar.core.robot import Env, Observation, PrivilegedActor, RestorableEnv, Step
from volar.core.thoughts import Thought
from volar.data.labels.course import HAND, TURN, Course, gripper_closed
from volar.data.labels.episode import Wanted, label
from volar.data.labels.moves import ROBOT, Directions, seen_by
from volar.policies.guided import Guide, Moment

AHEAD = 400  # control steps that the expert is tried ahead at most
APART = 0x656C7365  # the other scene's seed is drawn apart from everything else that follows from the episode's
CAMERA = "camera "  # what `Directions.said` begins with where a camera says what forward means


@dataclass
class _Trace:
    """Frames of an episode: what there was before each action. objects: none where the labels know no names either."""

    hands: list[Float64[np.ndarray, " _"]] = field(default_factory=list)
    actions: list[Float32[np.ndarray, " a"]] = field(default_factory=list)
    instructions: list[str] = field(default_factory=list)
    objects: list[Mapping[str, NamedObject]] = field(default_factory=list)

    def __add__(self, other: "_Trace") -> "_Trace":
        return _Trace(
            self.hands + other.hands, self.actions + other.actions, self.instructions + other.instructions,
            self.objects + other.objects,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What was said last. until: the step from which the expert would have gone on to other marks."""

    thought: Thought = field(default_factory=Thought)
    stage: int = -1
    until: int = 0


class Oracle(Guide):
    """Final. labels: how the data were labelled that the policy learned from, as `volar data label` notes it among a
    data set's facts. Words are looked for at every look, marks alone when expert or gripper would have come to others.

    Raises ConfigError at the first episode of a world that cannot be restored, or does not know what the labels say.
    """

    privileged = ("thoughts by an oracle: an expert tried ahead in the simulator",)

    def __init__(self, expert: PrivilegedActor, labels: Mapping[str, Any]) -> None:
        self._expert, self._labels = expert, labels

    def reset(self, seed: int) -> None:
        self._seed, self._past, self._told = seed, _Trace(), _Told()

    def bind(self, env: Env) -> None:
        world = env.unwrapped
        if not isinstance(world, RestorableEnv):
            raise ConfigError(f"{type(world).__name__} cannot be put back, so no oracle can try anything ahead in it.")
        self._world, names = world, world.spec.proprioception
        if not set(HAND) <= set(names):
            raise ConfigError(f"{type(world).__name__} does not say where its hand is: {', '.join(names)}.")
        self._hand = [names.index(name) for name in (*HAND, *TURN) if name in names]
        self._wanted = wanted_of(self._labels, world)

    def thought(self, moment: Moment) -> Thought:
        self._remember(moment.carried)
        now = len(self._past.actions)
        if self._told.stage != moment.stage or now >= self._told.until or self._wanted.words:
            coming = self.coming()
            lasts = next((ahead for ahead, each in enumerate(coming) if each.marks != coming[0].marks), len(coming))
            self._told = _Told(thought=coming[0], stage=moment.stage, until=now + lasts)
        return self._told.thought

    def coming(self) -> tuple[Thought, ...]:
        """The labels of the frames from now to the end, if the expert went on."""
        before, past = self._world.save(), len(self._past.actions)
        self._expert.reset(self._seed)
        self._expert.bind(self._world)
        trace = self._past + self._ahead()
        self._world.restore(before)
        robot, hands = self._world.spec.action, np.array(trace.hands)
        course = Course(
            fps=robot.rate_hz,
            instructions=tuple(trace.instructions),
            hand=hands[:, :3],
            turn=Rotation.from_rotvec(hands[:, 3:]) if len(self._hand) > 3 else None,
            closed=gripper_closed(np.array(trace.actions, dtype=np.float64), robot, fps=robot.rate_hz),
            objects=tuple(trace.objects),
        )
        return label(course, self._wanted)[past:]

    def elsewhere(self, seed: int) -> tuple[Thought, ...]:
        """The labels of the whole scene that `seed` names, if the expert acted in it."""
        before = self._world.save()
        self._world.reset(seed)
        thoughts = self.coming()
        self._world.restore(before)
        return thoughts

    def _remember(self, carried: Float32[np.ndarray, "n a"]) -> None:
        """Go over the steps since the last look once more, to see what nobody looked at."""
        now = self._world.save()
        if len(carried):
            self._world.restore(self._last)
            for action in carried:
                self._note(self._past, self._world.observe(images=False), action)
            self._world.restore(now)
        self._last = now

    def _ahead(self) -> _Trace:
        """What the expert does from here on, until it succeeds."""
        trace = _Trace()
        while len(trace.actions) < AHEAD:
            seen = self._world.observe(images=False)
            chunk = self._expert.act(seen)
            for action in chunk.actions[: chunk.execute]:
                step = self._note(trace, seen, action)
                if step.success or step.terminated:
                    return trace
                seen = self._world.observe(images=False)
        return trace

    def _note(self, trace: _Trace, seen: Observation, action: Float32[np.ndarray, " a"]) -> Step:
        trace.hands.append(seen.proprioception[self._hand].astype(np.float64))
        trace.actions.append(action)
        trace.instructions.append(seen.instruction)
        if self._labels["privileged"] and isinstance(self._world, NamingWorld):
            trace.objects.append(dict(self._world.named_objects()))
        return self._world.step(self._world.spec.action.clip(action))


class Shuffled(Guide):
    """Final. The truth of another scene of the same task: of a moment of it that is drawn anew at every stage, so that
    what is said looks like what the policy knows and has nothing to do with what it sees."""

    privileged = ("thoughts by an oracle of another scene: an expert tried ahead in the simulator",)

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def reset(self, seed: int) -> None:
        self._oracle.reset(seed)
        self._seed = seed

    def bind(self, env: Env) -> None:
        self._oracle.bind(env)
        self._thoughts = self._oracle.elsewhere(int(np.random.default_rng([self._seed, APART]).integers(2**31)))

    def thought(self, moment: Moment) -> Thought:
        drawn = np.random.default_rng([self._seed, APART, moment.stage]).integers(len(self._thoughts))
        return self._thoughts[drawn]


def wanted_of(labels: Mapping[str, Any], world: Env) -> Wanted:
    """What is to be labelled, on the cameras as they stand in the world where it knows them. Raises ConfigError."""
    if labels["privileged"] and not isinstance(world, NamingWorld):
        raise ConfigError(f"The labels name objects, and {type(world).__name__} does not name its own.")
    told = {calibration.camera: calibration for calibration in map(Calibration.from_json, labels["cameras"])}
    known = told | (dict(world.calibrations()) if isinstance(world, CalibratedWorld) else {})
    said = labels["directions"]
    return Wanted(
        marks=tuple(labels["marks"]), words=tuple(labels["words"]), cameras=tuple(known[name] for name in told),
        directions=None if said is None else _directions(said, known),
    )  # fmt: skip


def _directions(said: str, known: Mapping[str, Calibration]) -> Directions:
    camera = said.removeprefix(CAMERA)
    if said == ROBOT.said:
        return ROBOT
    if camera not in known:
        raise ConfigError(f"The labels say forward and left as {said} sees it, and nobody knows where it stands.")
    return seen_by(known[camera])
