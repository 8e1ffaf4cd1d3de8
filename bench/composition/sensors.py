"""A tabletop seen by sensors at right angles: `front` tells x well and y badly, `side` the reverse, `true` both well.

Badly means an error that stays the same all through an episode, as that of a wrong calibration does.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from volar.core.robot import Env, Observation, RobotSpec, Step
from volar.envs import TABLE

ERROR = 0.03  # metres, standard deviation of every object's and the goal's coordinate along the bad axis
POINTS, POSE = 4, 7  # three objects and the goal; numbers of an object's pose
BAD_AXIS = {"true": None, "front": 1, "side": 0}  # who sees all is a third row of the errors, and shown to nobody


class Both(Env):
    """Proprioception = the robot's own numbers, then what each sensor in `shown` says, under names that begin with its
    own. All three worlds have the same scenes and the same errors for the same seed."""

    shown: ClassVar[tuple[str, ...]] = ("front", "side")
    privileged = ("simulator state: object and goal positions, with errors along one axis for some sensors",)

    def __init__(self, task: str, *, cameras: Mapping[str, int] | None = None) -> None:
        self.view = TABLE.load("tabletop-state")(task, cameras=cameras)
        own, names = self.view.world.spec.proprioception, self.view.world.object_state_names
        self.own = len(own)
        told = tuple(f"{sensor}_{name}" for sensor in self.shown for name in names)
        self._spec = replace(self.view.spec, proprioception=(*own, *told))
        self.errors = dict.fromkeys(BAD_AXIS, np.zeros(POINTS))

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
        told = [_with_error(objects, BAD_AXIS[sensor], self.errors[sensor]) for sensor in self.shown]
        return replace(seen, proprioception=np.concatenate([own, *told]).astype(np.float32))

    def step(self, action: Float32[np.ndarray, " a"]) -> Step:
        return self.view.step(action)

    def measure(self) -> Mapping[str, float]:
        return self.view.measure()

    def digest(self) -> str:
        return self.view.digest()

    def describe(self) -> dict[str, Any]:
        return {**self.view.describe(), "sensor_error_m": ERROR}

    def close(self) -> None:
        self.view.close()


class Front(Both):
    shown = ("front",)


class Side(Both):
    shown = ("side",)


def _with_error(
    objects: Float32[np.ndarray, " n"], axis: int | None, error: np.ndarray
) -> Float32[np.ndarray, " n"]:  # fmt: skip
    told = objects.copy()
    for point in range(POINTS):
        start = POSE * point
        if axis is not None and told[start : start + 3].any():  # a slot without an object stays empty
            told[start + axis] += error[point]
    return told
