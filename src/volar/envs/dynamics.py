"""Worlds whose masses and friction can be made wrong, so that a planner's simulator differs from the one it acts in.

Gain and delay need no such world: see `volar.planning.mismatch`.
"""

# MuJoCo's functions live in a compiled module that has no stubs.
# pyright: reportAttributeAccessIssue=false

from abc import abstractmethod
from typing import Any

from volar.core.errors import ConfigError
from volar.core.robot import RestorableEnv


class WorldWithDynamics(RestorableEnv):
    """States saved before fit the world after, and the other way round."""

    @abstractmethod
    def scale_dynamics(self, *, mass: float, friction: float) -> None:
        """From now on all masses and inertias are `mass` and all sliding friction is `friction` times what it was.
        ConfigError for factors that are not positive."""


def scale_model(model: Any, *, mass: float, friction: float) -> None:
    """`scale_dynamics` of a MuJoCo model."""
    from volar.envs.offscreen import mujoco

    if not (mass > 0 and friction > 0):
        raise ConfigError(f"Factors of mass and friction are positive, 1.0 being no error; got {mass} and {friction}.")
    model.body_mass[:] *= mass
    model.body_inertia[:] *= mass
    model.geom_friction[:, 0] *= friction
    mujoco.mj_setConst(model, mujoco.MjData(model))  # what MuJoCo derives from masses
