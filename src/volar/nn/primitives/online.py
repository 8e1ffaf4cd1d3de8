"""A motion under way in a world that changes: a goal that jumps, a hand that lags, a thing in the way.

Jumping goals are low-passed; a lagging hand stretches time, which leaves the path as it is; obstacles push (Park et al.
2008, Hoffmann et al. 2009), within a distance and up to a limit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from volar.nn.primitives.response import STEPS, Motion, Parameters, Response, Spring

Push = Callable[[Float[Tensor, "b d"], Float[Tensor, "b d"]], Float[Tensor, "b d"]]
"""Acceleration per squared duration, from position and speed per duration."""


@dataclass(frozen=True, kw_only=True)
class Avoidance:
    """strength: per duration. sharpness: per radian between the way and the direction to the thing; the push is
    strongest at an angle of 1 / sharpness and nothing straight ahead, where no side is the nearer one. within: metres
    from the thing's centre. limit: largest acceleration, metres per squared duration."""

    strength: float = 1000.0
    sharpness: float = 20 / math.pi
    within: float = 0.15
    limit: float = 50.0


def approached(
    goal: Float[Tensor, "*b d"], wanted: Float[Tensor, "*b d"], step: float, *, rate: float
) -> Float[Tensor, "*b d"]:
    """The followed goal after `step` durations, low-passed towards the wanted one; half the spring's alpha is a good
    rate: acceleration then rises in place of jumping."""
    return wanted + (goal - wanted) * math.exp(-rate * step)


def pace(lag: Float[Tensor, "*b"], half: float) -> Float[Tensor, "*b"]:
    """Share of the primitive's own pace at which it goes on while the hand is `lag` metres behind: one half at `half`
    ("phase stopping"). Time is stretched as a whole, so the path is the same."""
    return 1 / (1 + (lag / half) ** 2)


def avoidance(
    position: Float[Tensor, "b 3"], speed: Float[Tensor, "b 3"], things: Float[Tensor, "b n 3"], config: Avoidance
) -> Float[Tensor, "b 3"]:
    """The acceleration that turns the motion away from the centres of `things`. A thing behind does not push."""
    away = things - position[:, None]
    way = speed[:, None].expand_as(away)
    turn = torch.linalg.cross(away, way)
    across, ahead = turn.norm(dim=-1, keepdim=True), (away * way).sum(-1, keepdim=True)
    angle = torch.atan2(across, ahead)
    # The speed, turned by 90 degrees about the axis across it: away from the thing, in the plane of both.
    turned = torch.linalg.cross(turn / across.clamp_min(1e-12), way)
    near = (away.norm(dim=-1, keepdim=True) < config.within) & (ahead > 0)
    pushes = near * config.strength * turned * angle * torch.exp(-config.sharpness * angle)
    total = pushes.sum(1)
    return total * (config.limit / total.norm(dim=-1, keepdim=True).clamp_min(config.limit))


def steered(response: Response, spring: Spring, parameters: Parameters, push: Push) -> Motion:
    """The motions with `push` added to their acceleration, on the response's grid of s = time / duration.

    The spring is linear, so only what the push adds is integrated, with the push held over each step of the grid; with
    a push of zero the motion is exact.
    """
    system = torch.tensor([[0.0, 1.0], [-spring.alpha * spring.beta, -spring.alpha]], dtype=torch.float64)
    over = torch.linalg.matrix_exp(system / STEPS)
    gain = torch.linalg.solve(system, over - torch.eye(2, dtype=torch.float64))[:, 1]
    values = parameters.stacked().double()
    plain = torch.stack(
        [torch.einsum("tm,bdm->tbd", rows, values) for rows in (response.position, response.speed)], dim=-1
    )
    added, states = torch.zeros_like(plain[0]), []
    for now in plain:
        state = now + added
        states.append(state)
        added = added @ over.T + push(state[..., 0], state[..., 1])[..., None] * gain
    path = torch.stack(states, dim=1).to(parameters.start)
    return Motion(position=path[..., 0], velocity=path[..., 1] / parameters.duration[:, None, None])
