"""Discrete primitives that arrive with a speed of their own, to strike or to throw (Muelling et al. 2013): the spring
follows a moving goal, a quintic from start to goal that has both speeds and no acceleration at either end.

Without weights the motion is that quintic. After one duration the goal stands still and the motion settles on it.
"""

from dataclasses import replace
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from volar.nn.primitives.discrete import Discrete, discrete_response
from volar.nn.primitives.response import STEPS, Parameters, Response


@cache
def hitting_response(config: Discrete, *, last: float = 2.0) -> Response:
    """As `discrete_response`, with one column more after those of the weights: the speed at the goal, per duration.
    `config.smooth` changes nothing, for the quintic starts without a jump. Shared: read only."""
    plain = discrete_response(config, last=last)
    grid = torch.arange(len(plain.position), dtype=torch.float64) / STEPS
    way = torch.stack([_quintic(power, grid) for power in (0, 1)])
    # Past the goal the speed that is left dies out as that of a start does.
    after = torch.stack([plain.position[:, 1], plain.speed[:, 1]])[:, : max(len(grid) - STEPS, 0)]
    way[:, STEPS:] = 0.0
    way[0, STEPS:, 2] = 1.0
    way[:, STEPS:, 3] = after
    position, speed = (
        torch.cat([moved[:, :3], forced[:, 3:], moved[:, 3:]], dim=1)
        for moved, forced in zip(way, (plain.position, plain.speed), strict=True)
    )
    return Response(position=position, speed=speed)


def hitting(parameters: Parameters, speed: Float[Tensor, "b d"]) -> Parameters:
    """The parameters for `hitting_response`, arriving with `speed` per second."""
    last = (speed * parameters.duration[:, None])[..., None]
    return replace(parameters, weights=torch.cat([parameters.weights, last], dim=-1))


def _quintic(power: int, s: Float[Tensor, " n"]) -> Float[Tensor, "n 4"]:
    """What start, start speed, goal and goal speed add to the position (power 0) or to the speed (power 1)."""
    if power == 0:
        far = 10 * s**3 - 15 * s**4 + 6 * s**5
        return torch.stack([1 - far, s - 6 * s**3 + 8 * s**4 - 3 * s**5, far, -4 * s**3 + 7 * s**4 - 3 * s**5], -1)
    far = 30 * (s**2 - 2 * s**3 + s**4)
    first, second = 1 - 18 * s**2 + 32 * s**3 - 15 * s**4, -12 * s**2 + 28 * s**3 - 15 * s**4
    return torch.stack([-far, first, far, second], -1)
