"""Rhythmic movement primitives (Ijspeert et al. 2013): a spring around a centre line, bent by a periodic force.

Used as `Parameters` with duration = period / (2 pi), goal = centre line and weights times the amplitude.
"""

import math
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor

from volar.core.errors import ConfigError
from volar.nn.primitives.response import Response, Spring, respond


@dataclass(frozen=True, kw_only=True)
class Rhythmic:
    """weights: basis functions around the circle, per dimension. sharpness: of each, times their number."""

    weights: int = 20
    sharpness: float = 2.5
    spring: Spring = field(default_factory=Spring)

    def __post_init__(self) -> None:
        if self.weights < 2 or self.sharpness <= 0:
            raise ConfigError(f"A rhythmic primitive needs at least 2 weights, got {self.weights}.")


def force(config: Rhythmic, angle: Float[Tensor, " n"]) -> Float[Tensor, "n k"]:
    """Of each weight, at angles in radians: normalised von Mises functions; it has the period 2 pi."""
    centres = torch.arange(config.weights, dtype=angle.dtype) * (2 * math.pi / config.weights)
    return torch.softmax(config.sharpness * config.weights * torch.cos(angle[:, None] - centres), dim=-1)


@cache
def rhythmic_response(config: Rhythmic, *, periods: int = 4) -> Response:
    """From rest over that many periods; s is the angle. Shared: read only."""
    return respond(config.spring, partial(force, config), last=2 * math.pi * periods)
