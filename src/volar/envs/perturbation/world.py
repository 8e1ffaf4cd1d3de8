"""What a MuJoCo world offers so that its looks and its beginnings can be changed from outside."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from volar.envs.state_view import WorldWithObjects

NOWHERE = (0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Displacement:
    """Metres by which an episode begins elsewhere. outward: of everything that the layout places, horizontally, away
    from the middle of where it may stand. hand: of the hand, x, y and z in the world."""

    outward: float = 0.0
    hand: tuple[float, float, float] = NOWHERE

    def __add__(self, other: "Displacement") -> "Displacement":
        x, y, z = (ours + theirs for ours, theirs in zip(self.hand, other.hand, strict=True))
        return Displacement(outward=self.outward + other.outward, hand=(x, y, z))


class PerturbableWorld(WorldWithObjects):
    """A MuJoCo world whose episodes may begin displaced."""

    @property
    @abstractmethod
    def model(self) -> Any:
        """The compiled mujoco.MjModel that is stepped and rendered."""

    @property
    @abstractmethod
    def background(self) -> tuple[int, ...]:
        """Numbers of the geoms that are neither robot nor part of any task: table, floor, walls."""

    @abstractmethod
    def reset_displaced(self, seed: int, displacement: Displacement) -> None:
        """As `reset` of the same seed, with everything it places moved. Raises ConfigError where the scene does not
        allow it."""

    def reset(self, seed: int) -> None:
        self.reset_displaced(seed, Displacement())


def outward(place: Float64[np.ndarray, " 2"], middle: Float64[np.ndarray, " 2"], metres: float) -> np.ndarray:
    """A step [2] of that many metres from the middle through the place; along x where the two coincide."""
    away = place - middle
    length = float(np.linalg.norm(away))
    return metres * (away / length if length > 1e-6 else np.array([1.0, 0.0]))
