"""Discrete dynamic movement primitives (Ijspeert et al. 2013, Neural Computation 25): a spring towards a goal, bent by
a force that dies out with the phase, so that every weight leads to the goal in the end.

The force is not scaled by the distance to the goal: on an axis that hardly moved in the demonstration, a scaled one
blows up with the first goal that does.
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
class Discrete:
    """weights: basis functions per dimension. end: phase that is left after one duration. overlap: value of a basis
    function at its neighbour's centre. smooth: no jump of acceleration at the start."""

    weights: int = 10
    end: float = 0.01
    overlap: float = 0.8
    smooth: bool = False
    spring: Spring = field(default_factory=Spring)

    def __post_init__(self) -> None:
        if self.weights < 2 or not 0 < self.end < 1 or not 0 < self.overlap < 1:
            raise ConfigError(
                f"A discrete primitive needs at least 2 weights and end and overlap between 0 and 1; got "
                f"{self.weights}, {self.end} and {self.overlap}."
            )


def phase(s: Float[Tensor, "..."], end: float) -> Float[Tensor, "..."]:
    """Falls from 1 to `end` over one duration, and on."""
    return torch.exp(math.log(end) * s)


def force(config: Discrete, s: Float[Tensor, " n"]) -> Float[Tensor, "n k"]:
    """Of each weight: the phase, shared out among normalised Gaussians over the phase."""
    centres = phase(torch.linspace(0, 1, config.weights, dtype=s.dtype), config.end)
    gaps = centres.diff()
    widths = -math.log(config.overlap) / torch.cat([gaps, gaps[-1:]]) ** 2
    now = phase(s, config.end)[:, None]
    # Far from all centres, late, every Gaussian underflows; their shares do not.
    return now * torch.softmax(-widths * (now - centres) ** 2, dim=-1)


@cache
def discrete_response(config: Discrete, *, last: float = 2.0) -> Response:
    """Up to `last` durations: after one of them the force is nearly gone and the spring settles. Shared: read only."""
    fade = partial(phase, end=config.end) if config.smooth else None
    return respond(config.spring, partial(force, config), last=last, fade=fade)
