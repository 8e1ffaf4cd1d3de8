"""Things with names and places: what a detector gives, or a simulator, whose word for it is privileged."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from volar.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class NamedObject:
    """position: of its centre, metres in the frame of the robot's actions. size: of the upright box around it."""

    position: Float64[np.ndarray, " 3"]
    size: Float64[np.ndarray, " 3"]


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """low, high: where the hand may be sent, metres in the frame of the robot's actions. directions: where that frame's
    axes point, in words, for one who sees the scene as who instructs does."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    directions: str = "x points right, y away from you, z up"

    def __post_init__(self) -> None:
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ConfigError(f"A workspace goes from low to a higher high on every axis; got {self.low}, {self.high}.")


class NamingWorld(ABC):
    """A world that can say what stands where. Whoever asks it for objects is privileged; its workspace is no secret."""

    @abstractmethod
    def named_objects(self) -> Mapping[str, NamedObject]:
        """By the words that instructions use."""

    @abstractmethod
    def workspace(self) -> Workspace: ...
