"""ProDMP (Li et al. 2023, arXiv 2210.01531): a discrete primitive's trajectory as a linear function of (weights, goal)
once position and velocity are given at any moment, so that a new plan goes on smoothly where the old one is left."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from volar.nn.primitives.response import Response


@dataclass(frozen=True, kw_only=True)
class LinearMap:
    """position(t) = given @ (position, speed per duration at the moment) + free @ (weights..., goal), and its speed per
    duration likewise."""

    given: Float[Tensor, "t 2"]
    free: Float[Tensor, "t m"]
    given_speed: Float[Tensor, "t 2"]
    free_speed: Float[Tensor, "t m"]


def linear_map(response: Response, s: Float[Tensor, " t"], *, moment: float = 0.0) -> LinearMap:
    """The map at s = time / duration, when position and speed are given at s = moment."""
    when = torch.tensor(moment, dtype=s.dtype)
    now = torch.stack([response.at(when), response.speed_at(when)])
    # Start and start speed are what they must be for the motion to pass the moment as given.
    solve = torch.linalg.inv(now[:, :2])
    maps = []
    for rows in (response.at(s), response.speed_at(s)):
        given = rows[:, :2] @ solve
        free = rows[:, 2:] - given @ now[:, 2:]
        maps += [given, torch.cat([free[:, 1:], free[:, :1]], dim=1)]
    return LinearMap(given=maps[0], free=maps[1], given_speed=maps[2], free_speed=maps[3])
