"""What a perturbation axis is: five sizes, and one of three places where it acts. Members are one module each."""

import zlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from volar.core.robot import Observation
from volar.envs.perturbation.world import Displacement, PerturbableWorld


class Axis(ABC):
    """sizes: at levels 1 to 5, in `unit`. says: what is changed, in words for the record.

    What a member draws is a function of the episode's seed and not of the level: a camera moves in the same direction
    at every level, only further, so that levels are compared on the same scenes."""

    sizes: ClassVar[tuple[float, float, float, float, float]]
    unit: ClassVar[str]
    says: ClassVar[str]

    def __init__(self, level: int) -> None:
        self.level, self.size = level, self.sizes[level - 1]

    def describe(self) -> dict[str, Any]:
        return {"level": self.level, "size": f"{self.size:g} {self.unit}", "changes": self.says}

    def random(self, seed: int, *more: int) -> np.random.Generator:
        """A stream of its own: the seed alone also placed the objects."""
        return np.random.default_rng([seed, zlib.crc32(type(self).__name__.encode()), *more])


class BeginningAxis(Axis):
    """Where the episode begins."""

    @abstractmethod
    def displace(self, seed: int) -> Displacement: ...


class PictureAxis(Axis):
    """What the pictures look like; physics stays."""

    @abstractmethod
    def paint(self, world: PerturbableWorld, seed: int) -> None:
        """Change the model's looks; they are as shipped when this is called."""


class ObservationAxis(Axis):
    """What the policy is given. delay: seconds by which pictures and proprioception are late."""

    delay: float = 0.0

    @abstractmethod
    def look(self, observation: Observation, *, seed: int, step: int) -> Observation:
        """The same for the same seed and control step, however often it is asked for."""
