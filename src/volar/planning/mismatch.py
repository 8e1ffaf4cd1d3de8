"""A planner's simulator that is not quite the world: how much a plan is worth when the model behind it is wrong.

Any RestorableEnv whose states are those of the real one can be the planner's simulator; gain and delay work for every
robot, mass and friction in MuJoCo worlds.
"""

# MuJoCo's functions live in a compiled module that has no stubs.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from volar.core.errors import ConfigError
from volar.core.evidence import Signs
from volar.core.robot import Env, Observation, RestorableEnv, RobotSpec, Step
from volar.envs.perturbation.world import PerturbableWorld


@dataclass(frozen=True, kw_only=True)
class DynamicsError:
    """What is wrong: factors of actions, masses and sliding friction, and by how many control steps (0 to 1) actions
    come late."""

    gain: float = 1.0
    mass: float = 1.0
    friction: float = 1.0
    delay: float = 0.0

    def __post_init__(self) -> None:
        factors = (self.gain, self.mass, self.friction)
        if not (all(factor > 0 for factor in factors) and 0 <= self.delay <= 1):
            raise ConfigError(
                f"Gain, mass and friction are positive factors (1.0 is no error) and a delay is 0 to 1 control steps; "
                f"got {self.gain}, {self.mass}, {self.friction} and {self.delay}."
            )

    @property
    def none(self) -> bool:
        return self == DynamicsError()

    def __str__(self) -> str:
        if self.none:
            return "the true dynamics"
        factors = {"actions": self.gain, "masses": self.mass, "friction": self.friction}
        words = [f"{name} times {factor:g}" for name, factor in factors.items() if factor != 1.0]
        return ", ".join([*words, *([f"actions {self.delay:g} steps late"] if self.delay else [])])


def with_error(env: RestorableEnv, error: DynamicsError) -> RestorableEnv:
    """`env` itself, made wrong. ConfigError where it has no masses and friction to change."""
    if (error.mass, error.friction) != (1.0, 1.0):
        world = env.unwrapped
        if not isinstance(world, PerturbableWorld):
            raise ConfigError(
                f"{type(world).__name__} has no MuJoCo model whose masses and friction could change; gain and delay "
                f"work in every environment."
            )
        _scale(world.model, mass=error.mass, friction=error.friction)
    return WrongActions(env, gain=error.gain, delay=error.delay)


def _scale(model: Any, *, mass: float, friction: float) -> None:
    from volar.envs.offscreen import mujoco

    model.body_mass[:] *= mass
    model.body_inertia[:] *= mass
    model.geom_friction[:, 0] *= friction
    mujoco.mj_setConst(model, mujoco.MjData(model))  # what MuJoCo derives from masses


class WrongActions(RestorableEnv):
    """Final. Actions of `env` that are `gain` times as strong, within their bounds, and `delay` control steps late: a
    step gets that share of the action before it. Of a state saved elsewhere that action is unknown, and none is late.
    """

    def __init__(self, env: RestorableEnv, *, gain: float = 1.0, delay: float = 0.0) -> None:
        self._env, self._gain, self._delay = env, np.float32(gain), np.float32(delay)
        self._late: Float32[np.ndarray, " a"] | None = None
        self.privileged = env.privileged

    @property
    def spec(self) -> RobotSpec:
        return self._env.spec

    @property
    def unwrapped(self) -> Env:
        return self._env.unwrapped

    def step(self, action: Float32[np.ndarray, " a"]) -> Step:
        due = self.spec.action.clip(action * self._gain)
        before = due if self._late is None else self._late
        self._late = due if self._delay else None
        return self._env.step(self.spec.action.clip(due + self._delay * (before - due)))

    def reset(self, seed: int) -> None:
        self._late = None
        self._env.reset(seed)

    def observe(self, *, images: bool = True) -> Observation:
        return self._env.observe(images=images)

    def save(self) -> bytes:
        """The state of `env`; behind it the late action, where there is one."""
        late = b"" if self._late is None else MARK + self._late.tobytes()
        return self._env.save() + late

    def restore(self, state: bytes) -> None:
        size = len(MARK) + 4 * self.spec.action.dim
        marked = state[-size:].startswith(MARK)
        self._late = np.frombuffer(state[len(MARK) - size :], np.float32) if marked else None
        self._env.restore(state[:-size] if marked else state)

    def measure(self) -> Mapping[str, float]:
        return self._env.measure()

    def signs(self) -> Signs:
        return self._env.signs()

    def digest(self) -> str:
        return self._env.digest()

    def describe(self) -> dict[str, Any]:
        return {**self._env.describe(), "gain_of_actions": float(self._gain), "delay_of_actions": float(self._delay)}

    def close(self) -> None:
        self._env.close()


MARK = b"late action:"
