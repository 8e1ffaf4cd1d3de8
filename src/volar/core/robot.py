"""The numpy side of every boundary: what a robot shows, what it is told, and what came of it.

Free of torch, so that a simulator's container or a robot's computer can import it.
Letters in shapes: h horizon, a action dimension, p proprioception dimension, t time steps of an episode.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float32, UInt8

from volar.core.errors import ConfigError, RobotFault, unknown_name
from volar.core.evidence import Failure, Signs, Track
from volar.core.thoughts import Thought

Control = Literal[
    "delta_position", "absolute_position", "delta_pose", "absolute_pose",
    "joint_delta", "joint_position", "joint_velocity",
]  # fmt: skip
Rotation = Literal["none", "axis_angle", "euler_xyz", "quaternion_xyzw", "quaternion_wxyz", "rotation_6d"]
Gripper = Literal["none", "positive_closes", "positive_opens"]
Frame = Literal["none", "world", "base", "tool"]


@dataclass(frozen=True, kw_only=True)
class ActionSpec:
    """What the numbers of an action mean. Nothing has a default: two robots that differ here must not be mixed.

    names: one word per dimension. units: one per dimension ("m", "rad", "normalised", ...).
    low, high: what the controller accepts, per dimension. rate_hz: control steps per second.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    control: Control
    rotation: Rotation
    gripper: Gripper
    frame: Frame
    rate_hz: float

    def __post_init__(self) -> None:
        sizes = {len(self.names), len(self.units), len(self.low), len(self.high)}
        if len(sizes) != 1:
            raise ConfigError(
                f"ActionSpec: names, units, low and high must be equally long, got lengths "
                f"{len(self.names)}, {len(self.units)}, {len(self.low)}, {len(self.high)}."
            )
        for option, choices in ((self.control, Control), (self.rotation, Rotation),
                                (self.gripper, Gripper), (self.frame, Frame)):  # fmt: skip
            if option not in get_args(choices):
                raise unknown_name("ActionSpec choice", str(option), get_args(choices))
        if not (self.rate_hz > 0 and math.isfinite(self.rate_hz)):
            raise ConfigError(f"ActionSpec: rate_hz must be a positive number of steps per second, got {self.rate_hz}.")
        if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
            raise ConfigError(f"ActionSpec: every low must be below its high, got {self.low} and {self.high}.")

    @property
    def dim(self) -> int:
        return len(self.names)

    def clip(self, action: np.ndarray) -> np.ndarray:
        """The action inside [low, high], float32. A non-finite number is a RobotFault, never clipped to a command."""
        if action.shape[-1] != self.dim:
            raise RobotFault(f"An action has {action.shape[-1]} numbers, the robot takes {self.dim}: {self.names}.")
        if not np.isfinite(action).all():
            bad = [self.names[i] for i in np.unique(np.argwhere(~np.isfinite(action))[:, -1])]
            raise RobotFault(f"Non-finite action in {', '.join(bad)}; nothing was sent.")
        low, high = self._bounds
        return np.minimum(np.maximum(action, low), high).astype(np.float32)

    @cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.low, dtype=np.float32), np.array(self.high, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One camera's declared name and picture size in pixels."""

    name: str
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class RobotSpec:
    """Everything that a data set, a policy and an environment must agree on before they meet."""

    action: ActionSpec
    cameras: tuple[Camera, ...]
    proprioception: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RobotSpec":
        action: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data["action"].items()
        }
        return cls(
            action=ActionSpec(**action),
            cameras=tuple(Camera(**camera) for camera in data["cameras"]),
            proprioception=tuple(data["proprioception"]),
        )


def require_match(ours: RobotSpec, theirs: RobotSpec, *, our_name: str, their_name: str) -> None:
    """Raise one ConfigError that lists every point on which two specs differ. The order of cameras does not matter."""
    differences = []
    mine = {camera.name: (camera.height, camera.width) for camera in ours.cameras}
    other = {camera.name: (camera.height, camera.width) for camera in theirs.cameras}
    for name in sorted(mine.keys() | other.keys()):
        if mine.get(name) != other.get(name):
            differences.append(f"camera {name!r}: {mine.get(name, 'absent')} against {other.get(name, 'absent')}")
    if ours.proprioception != theirs.proprioception:
        differences.append(f"proprioception: {ours.proprioception} against {theirs.proprioception}")
    for key, value in asdict(ours.action).items():
        if value != getattr(theirs.action, key):
            differences.append(f"action {key}: {value} against {getattr(theirs.action, key)}")
    if differences:
        raise ConfigError(f"{our_name} does not fit {their_name}:\n  " + "\n  ".join(differences))


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a policy may see at one moment.

    images: camera name -> uint8 [height width 3], RGB, upright. proprioception: float32 [p], in the robot's units.
    instruction: natural language. time: seconds since the episode began.
    """

    images: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]
    proprioception: Float32[np.ndarray, " p"]
    instruction: str
    time: float

    def digest(self) -> str:
        """Hash of everything in it; equal digests of first observations prove that two episodes are paired."""
        sha = hashlib.sha256(self.instruction.encode())
        sha.update(np.ascontiguousarray(self.proprioception).tobytes())
        for name in sorted(self.images):
            sha.update(name.encode())
            sha.update(np.ascontiguousarray(self.images[name]).tobytes())
        return sha.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Actions to come, in the robot's units: float32 [h a]; `execute` of them are carried out before the next look.

    evaluations: how often the decoder's network was evaluated for it. latency: seconds of wall time it took.
    strangeness: what the decoder says of how unlike its training it is, larger is stranger; None where it cannot tell.
    simulator_steps: control steps that a planner tried in a simulator before it decided; 0 for all who do not plan.
    thought: what it told itself first; None for those that do not reason.
    """

    actions: Float32[np.ndarray, "h a"]
    execute: int
    evaluations: int = 1
    latency: float = 0.0
    strangeness: float | None = None
    simulator_steps: int = 0
    thought: Thought | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one control step brought. `success` is the momentary flag; how it is scored is declared by the Env."""

    success: bool
    reward: float
    terminated: bool


class Outcome(StrEnum):
    """Why an episode ended."""

    SUCCESS = "success"
    TIME_OUT = "time_out"
    TERMINATED = "terminated"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """The recorded course of an episode: row t is what was seen before action t was taken.

    images: camera -> uint8 [n height width 3] (empty when nobody asked for frames), taken before the steps named in
    image_steps: every step for `frames="all"`, so n = t; the looks and the last moment (step t) for "looks".
    actions: float32 [t a], the intended (clean) action; executed: float32 [t a], what was really sent, noise and
    clipping included. instructions: one per step where the task changes what it says, empty where one serves all.
    """

    images: Mapping[str, UInt8[np.ndarray, "n _ _ 3"]]
    proprioception: Float32[np.ndarray, "t p"]
    actions: Float32[np.ndarray, "t a"]
    executed: Float32[np.ndarray, "t a"]
    rewards: Float32[np.ndarray, " t"]
    image_steps: tuple[int, ...] = ()
    instructions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """One episode to be run: `arm` names who acts, `instruction` replaces the task's own when given.

    max_steps: control steps until time-out. noise: standard deviation of Gaussian execution noise, in action units.
    frames: "all" records a picture every step, "looks" those the actor asked for and the last moment, "none" nothing.
    """

    task: str
    seed: int
    arm: str
    max_steps: int
    instruction: str | None = None
    noise: float = 0.0
    frames: Literal["all", "looks", "none"] = "none"


@dataclass(frozen=True, kw_only=True)
class Episode:
    """What is known about one finished episode. Everything but `trajectory` goes into the record file.

    latencies: seconds per decision. evaluations: decoder evaluations per decision. strangeness: of every chunk, where
    the decoder can tell. simulator_steps: of a planner, all decisions together. thoughts: of every decision, for those
    that reason.
    first_observation: `Env.digest` of the initial state, equal for all arms that met the same one.
    privileged: what was used that a real robot would not have, in words; empty for an honest policy.
    tracks: what the environment measured in it. failure: what that says about a failed one.
    """

    job: Job
    instruction: str
    outcome: Outcome
    steps: int
    first_observation: str
    executed_per_chunk: int
    latencies: tuple[float, ...] = ()
    evaluations: tuple[int, ...] = ()
    strangeness: tuple[float, ...] = ()
    simulator_steps: int = 0
    thoughts: tuple[Thought, ...] = ()
    privileged: tuple[str, ...] = ()
    total_reward: float = 0.0
    error: str | None = None
    tracks: Mapping[str, Track] = field(default_factory=dict)
    failure: Failure | None = None
    trajectory: Trajectory | None = field(default=None, repr=False, compare=False)

    @property
    def success(self) -> bool | None:
        """None when the episode broke and must not be scored."""
        return None if self.outcome is Outcome.ERROR else self.outcome is Outcome.SUCCESS


class Env(ABC):
    """A world with one task at a time. Rendering happens only in `observe`, so looking is what costs.

    privileged: what `observe` shows that a real robot would not see, in words; recorded with every episode.
    """

    privileged: tuple[str, ...] = ()

    @property
    @abstractmethod
    def spec(self) -> RobotSpec: ...

    @property
    def unwrapped(self) -> "Env":
        """The world behind those that only change how it is seen or begins; itself where there is none. Experts, who
        know one world, bind to it."""
        return self

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Begin the episode that `seed` names: the same initial state in every process, for ever."""

    @abstractmethod
    def observe(self, *, images: bool = True) -> Observation:
        """The present observation, pictures rendered now. images=False leaves them out and renders nothing."""

    @abstractmethod
    def step(self, action: Float32[np.ndarray, " a"]) -> Step:
        """One control step with an action inside `spec.action`'s bounds; call `spec.action.clip` first."""

    @abstractmethod
    def close(self) -> None: ...

    def measure(self) -> Mapping[str, float]:
        """Facts about the present state that explain failures, such as distances in metres: the same names every
        time. Only the record sees them, never the actor."""
        return {}

    def signs(self) -> Signs:
        """How the measures of this task tell failures apart."""
        return Signs()

    def digest(self) -> str:
        """Hash of the present state, whatever the instruction: equal digests after `reset` prove two episodes paired.
        Worlds that know their state override it, so that nothing needs to be rendered."""
        return replace(self.observe(), instruction="").digest()

    @staticmethod
    def shared_scenes() -> tuple[tuple[str, ...], ...]:
        """Tasks, grouped, that begin from the same pictures for the same seed, so that only words tell them apart."""
        return ()

    def describe(self) -> dict[str, Any]:
        """Facts for the run fingerprint: simulator and renderer versions, render recipe, success semantics."""
        return {}


class RestorableEnv(Env):
    """An Env whose whole state can be saved and put back, so that a restored run replays bit-identically."""

    @abstractmethod
    def save(self) -> bytes: ...

    @abstractmethod
    def restore(self, state: bytes) -> None: ...


class Actor(ABC):
    """Whoever decides: a trained policy, a scripted expert, a client of a remote server.

    uses_images: False lets `act` be called with observations whose `images` is empty, so that nothing is rendered.
    """

    privileged: tuple[str, ...] = ()
    uses_images: bool = True

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Forget the last episode. `seed` makes what follows reproducible."""

    @abstractmethod
    def act(self, observation: Observation) -> Chunk: ...


class BatchActor(Actor):
    """An Actor that can decide for several episodes at once, which saves most of a network's time."""

    @abstractmethod
    def act_many(self, rows: Sequence[int], observations: Sequence[Observation]) -> list[Chunk]:
        """One chunk per observation. rows: which of the episodes begun by the last `reset` each belongs to."""

    def act(self, observation: Observation) -> Chunk:
        return self.act_many([0], [observation])[0]


class PrivilegedActor(Actor):
    """An Actor that reads the simulator itself. What it uses is named in `privileged` and recorded with the result."""

    uses_images = False

    @abstractmethod
    def bind(self, env: Env) -> None:
        """Called once per episode, after `env.reset` and before the first `act`."""
