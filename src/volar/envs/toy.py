"""A flat world of three coloured discs, for tests and teaching only: no result on it says anything about robots.

The scene is the same for all tasks of a seed, so nothing but the instruction tells which disc to reach.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from volar.core.errors import ConfigError, unknown_name
from volar.core.evidence import Signs, Stage
from volar.core.robot import (
    ActionSpec,
    Chunk,
    Env,
    Observation,
    PrivilegedActor,
    RestorableEnv,
    RobotSpec,
    Step,
)
from volar.envs.cameras import declared_cameras

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 230)}
BACKGROUND, HAND = (235, 235, 225), (20, 20, 20)
DISC, HAND_RADIUS = 0.15, 0.08  # world units; the world is the square [-1, 1] x [-1, 1]
STRIDE = 0.1  # world units per unit of action
RATE_HZ = 10.0
CAMERA, DEFAULT_SIZE = "top", 32
ACTION = ActionSpec(
    names=("x", "y"),
    units=("tenths of the half side",) * 2,
    low=(-1.0, -1.0),
    high=(1.0, 1.0),
    control="delta_position",
    rotation="none",
    gripper="none",
    frame="world",
    rate_hz=RATE_HZ,
)


class Toy(RestorableEnv):
    """`reach-red`, `reach-green` or `reach-blue`: success while the hand's centre is on that disc. Touching another
    disc terminates the episode. The picture shows x to the right and y upwards."""

    def __init__(self, task: str, *, cameras: Mapping[str, int] | None = None) -> None:
        if task not in self.tasks():
            raise unknown_name("toy task", task, self.tasks())
        self._goal = task.removeprefix("reach-")
        declared = declared_cameras(cameras, default={CAMERA: DEFAULT_SIZE}, known=(CAMERA,), world="toy")
        self._spec = RobotSpec(action=ACTION, cameras=declared, proprioception=("hand_x", "hand_y"))
        self._world = np.zeros((1 + len(COLOURS), 2))  # the hand, then the discs in the order of COLOURS
        self._steps = 0

    @staticmethod
    def tasks() -> tuple[str, ...]:
        return tuple(f"reach-{colour}" for colour in COLOURS)

    @staticmethod
    def instructions(task: str) -> tuple[str, ...]:
        colour = task.removeprefix("reach-")
        return (f"reach the {colour} disc", f"go to the {colour} one", f"move onto {colour}")

    @staticmethod
    def expert() -> "ToyExpert":
        return ToyExpert()

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    @property
    def goal_offset(self) -> np.ndarray:
        """From the hand to the disc that the task names, world units: for the expert only."""
        return self._world[1 + list(COLOURS).index(self._goal)] - self._world[0]

    def reset(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        count = len(COLOURS)
        # A third of a turn apart, so that a straight line to one disc never crosses another.
        angles = 2 * math.pi * (random.permutation(count) + random.uniform(-0.1, 0.1, count) + random.uniform()) / count
        radii = random.uniform(0.6, 0.8, count)
        self._world[0] = random.uniform(-0.1, 0.1, 2)
        self._world[1:] = radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        self._steps = 0

    def observe(self, *, images: bool = True) -> Observation:
        return Observation(
            images={camera.name: self._draw(camera.height) for camera in self._spec.cameras} if images else {},
            proprioception=self._world[0].astype(np.float32),
            instruction=self.instructions(f"reach-{self._goal}")[0],
            time=self._steps / RATE_HZ,
        )

    def step(self, action: Float32[np.ndarray, " a"]) -> Step:
        self._world[0] = np.clip(self._world[0] + STRIDE * ACTION.clip(action), -1.0, 1.0)
        self._steps += 1
        distances = np.linalg.norm(self._world[1:] - self._world[0], axis=1)
        touched = [name for name, distance in zip(COLOURS, distances, strict=True) if distance < DISC]
        reward = -float(np.linalg.norm(self.goal_offset))
        return Step(success=self._goal in touched, reward=reward, terminated=bool(set(touched) - {self._goal}))

    def measure(self) -> dict[str, float]:
        others = [row for row, name in zip(self._world[1:], COLOURS, strict=True) if name != self._goal]
        return {
            "hand_to_disc": float(np.linalg.norm(self.goal_offset)),
            "hand_to_other_disc": min(float(np.linalg.norm(row - self._world[0])) for row in others),
        }

    def signs(self) -> Signs:
        return Signs(
            stages=(Stage(name="reach", measure="hand_to_disc", below=DISC, missed="never reached"),),
            terminated="wrong object",
        )

    def save(self) -> bytes:
        return np.append(self._world.ravel(), self._steps).tobytes()

    def restore(self, state: bytes) -> None:
        *world, steps = np.frombuffer(state)
        self._world[:] = np.reshape(world, self._world.shape)
        self._steps = int(steps)

    def digest(self) -> str:
        return hashlib.sha256(self.save()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        return {
            "simulator": "volar toy world, for tests",
            "frame_size": {camera.name: camera.height for camera in self._spec.cameras},
            "success": "the hand's centre is on the named disc, at any step",
            "control_rate_hz": RATE_HZ,
        }

    def close(self) -> None:
        pass

    def _draw(self, size: int) -> UInt8[np.ndarray, "_ _ 3"]:
        centres = (np.arange(size) + 0.5) / size * 2 - 1
        image = np.empty((size, size, 3), dtype=np.uint8)
        image[:] = BACKGROUND
        things = [*zip(self._world[1:], COLOURS.values(), [DISC] * len(COLOURS), strict=True)]
        for (x, y), colour, radius in [*things, (self._world[0], HAND, HAND_RADIUS)]:
            image[(centres[None] - x) ** 2 + (-centres[:, None] - y) ** 2 < radius**2] = colour
        return image


class ToyExpert(PrivilegedActor):
    """Goes straight to the named disc, one action at a time."""

    privileged = ("simulator state: position of the disc",)

    def reset(self, seed: int) -> None:
        pass

    def bind(self, env: Env) -> None:
        world = env.unwrapped
        if not isinstance(world, Toy):
            raise ConfigError(f"The toy world's expert acts in the toy world only, not in {type(world).__name__}.")
        self._env = world

    def act(self, observation: Observation) -> Chunk:
        offset = self._env.goal_offset
        action = offset / max(float(np.linalg.norm(offset)), STRIDE)
        return Chunk(actions=action.astype(np.float32)[None], execute=1, evaluations=0)
