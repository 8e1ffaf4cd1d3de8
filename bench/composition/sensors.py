"""Two views of one tabletop, as of cameras at right angles: `Front` tells x well and y badly, `Side` the reverse.

Badly means an error that stays the same all through an episode, as a wrong calibration does. `Both` shows both.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from volar.core.robot import Env, Observation, PrivilegedActor, RobotSpec, Step
from volar.envs import TABLE
from volar.envs.state_view import StateView, StateViewExpert

ERROR = 0.015  # metres, standard deviation of every object's and the goal's coordinate along the bad axis
POINTS, POSE = 4, 7  # three objects and the goal; numbers of an object's pose
BAD_AXIS = {"front": 1, "side": 0}


class Both(Env):
    """For judging, and what the two below are made of: the robot's own numbers, then what each sensor in `shown` says
    of the objects, under names that begin with the sensor's."""

    shown: ClassVar[tuple[str, ...]] = tuple(BAD_AXIS)
    privileged = ("simulator state: object and goal positions, one axis of them with errors",)

    def __init__(self, task: str, *, cameras: Mapping[str, int] | None = None) -> None:
        self.view: StateView = TABLE.load("tabletop-state")(task, cameras=cameras)
        names = self.view.world.object_state_names
        self.own = len(self.view.world.spec.proprioception)
        own = self.view.world.spec.proprioception
        told = tuple(f"{sensor}_{name}" for sensor in self.shown for name in names)
        self._spec = replace(self.view.spec, proprioception=(*own, *told))
        self.errors = {sensor: np.zeros(POINTS) for sensor in BAD_AXIS}

    @staticmethod
    def tasks() -> tuple[str, ...]:
        return TABLE.load("tabletop-state").tasks()

    @staticmethod
    def instructions(task: str) -> tuple[str, ...]:
        return TABLE.load("tabletop-state").instructions(task)

    @staticmethod
    def expert() -> PrivilegedActor:
        return SensorExpert(TABLE.load("tabletop-state").expert())

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def reset(self, seed: int) -> None:
        self.view.reset(seed)
        errors = np.random.default_rng([seed, 0x73656E73]).normal(0.0, ERROR, (len(BAD_AXIS), POINTS))
        self.errors = dict(zip(BAD_AXIS, errors, strict=True))

    def observe(self, *, images: bool = True) -> Observation:
        seen = self.view.observe(images=images)
        own, objects = seen.proprioception[: self.own], seen.proprioception[self.own :]
        told = [self._told(sensor, objects) for sensor in self.shown]
        return replace(seen, proprioception=np.concatenate([own, *told]).astype(np.float32))

    def _told(self, sensor: str, objects: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        told = objects.copy()
        for point, error in enumerate(self.errors[sensor]):
            start = POSE * point
            if told[start : start + 3].any():  # a slot without an object stays empty
                told[start + BAD_AXIS[sensor]] += error
        return told

    def step(self, action: Float32[np.ndarray, " a"]) -> Step:
        return self.view.step(action)

    def digest(self) -> str:
        return self.view.digest()

    def describe(self) -> dict[str, Any]:
        return {**self.view.describe(), "sensor_error_m": ERROR, "sensors": list(self.shown)}

    def close(self) -> None:
        self.view.close()


class Front(Both):
    """For demonstrations that one sensor saw."""

    shown = ("front",)


class Side(Both):
    """For demonstrations that the other sensor saw; the scenes, the demonstrations and the errors are the same."""

    shown = ("side",)


class SensorExpert(StateViewExpert):
    """It sees the table as it is."""

    def bind(self, env: Env) -> None:
        super().bind(env.view if isinstance(env, Both) else env)
