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
    # The moment beside the times, so that the grid is read once.
    times = torch.cat([s.new_tensor([moment]), s])
    places, speeds = response.at(times), response.speed_at(times)
    now = torch.stack([places[0], speeds[0]])
    # Start and start speed are what they must be for the motion to pass the moment as given.
    (a, b), (c, d) = now[:, :2]
    solve = torch.stack([torch.stack([d, -b]), torch.stack([-c, a])]) / (a * d - b * c)
    maps = []
    for rows in (places[1:], speeds[1:]):
        given = rows[:, :2] @ solve
        free = rows[:, 2:] - given @ now[:, 2:]
        maps += [given, torch.cat([free[:, 1:], free[:, :1]], dim=1)]
    return LinearMap(given=maps[0], free=maps[1], given_speed=maps[2], free_speed=maps[3])
