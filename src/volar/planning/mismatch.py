"""A planner's simulator that is not quite the world: how much a plan is worth when the model behind it is wrong.

Any RestorableEnv whose states are those of the real one can be the planner's simulator; this one works for every robot.
Errors of mass and friction belong to a simulator's own file.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from volar.core.errors import ConfigError
from volar.core.evidence import Signs
from volar.core.robot import Observation, RestorableEnv, RobotSpec, Step


class GainError(RestorableEnv):
    """Final. Every action does `gain` times what it does in `env`, within the action's bounds."""

    def __init__(self, env: RestorableEnv, gain: float) -> None:
        if not gain > 0:
            raise ConfigError(f"A gain is positive, 1.0 being no error; got {gain}.")
        self._env, self._gain = env, gain
        self.privileged = env.privileged

    @property
    def spec(self) -> RobotSpec:
        return self._env.spec

    def step(self, action: Float32[np.ndarray, " a"]) -> Step:
        return self._env.step(self.spec.action.clip(action * np.float32(self._gain)))

    def reset(self, seed: int) -> None:
        self._env.reset(seed)

    def observe(self, *, images: bool = True) -> Observation:
        return self._env.observe(images=images)

    def save(self) -> bytes:
        return self._env.save()

    def restore(self, state: bytes) -> None:
        self._env.restore(state)

    def measure(self) -> Mapping[str, float]:
        return self._env.measure()

    def signs(self) -> Signs:
        return self._env.signs()

    def digest(self) -> str:
        return self._env.digest()

    def describe(self) -> dict[str, Any]:
        return {**self._env.describe(), "gain_of_actions": self._gain}

    def close(self) -> None:
        self._env.close()
