"""Things with names and places: what a detector gives, or a simulator, whose word for it is privileged."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True, kw_only=True)
class NamedObject:
    """position: of its centre, metres in the frame of the robot's actions. size: of the upright box around it."""

    position: Float64[np.ndarray, " 3"]
    size: Float64[np.ndarray, " 3"]


class NamingWorld(ABC):
    """A world that can say what stands where. Whoever asks it is privileged."""

    @abstractmethod
    def named_objects(self) -> Mapping[str, NamedObject]:
        """By the words that instructions use."""
