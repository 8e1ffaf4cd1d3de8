"""Mathematics of Equilibrium Matching (arXiv 2510.02300): one field without time whose resting points are the data.

Here gamma 0 is noise and gamma 1 is data, x_gamma = gamma * data + (1 - gamma) * noise, and the field points uphill,
from data to noise, so that samplers subtract it. The authors' code learns the negative and adds it.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import Budget, Field
from volar.nn.budget import Metered


@dataclass(frozen=True, kw_only=True)
class Decay:
    """c(gamma), the length of the target (data to noise) along the path: it must vanish at the data.

    strength * (start - (start - 1) * gamma / turn) up to `turn`, then falling linearly to 0 at gamma 1.
    turn = 0 is the paper's linear decay, start = 1 the truncated one, any other start the piecewise one.
    """

    strength: float = 4.0
    turn: float = 0.8
    start: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.turn < 1 and self.strength > 0 and self.start > 0):
            raise ConfigError(
                f"A decay needs 0 <= turn < 1 and positive strength and start, got turn={self.turn}, "
                f"strength={self.strength}, start={self.start}."
            )

    def __call__(self, gamma: Tensor) -> Tensor:
        """Any shape."""
        end = (1 - gamma) / (1 - self.turn)
        if not self.turn:
            return self.strength * end
        return self.strength * torch.where(gamma <= self.turn, self.start - (self.start - 1) * gamma / self.turn, end)

    @property
    def stiffness(self) -> float:
        """Slope of the exact field at a lone data point: it pulls a small offset back `stiffness` times as strongly."""
        return self.strength / (1 - self.turn)

    def largest_step(self, look_ahead: float = 0.0) -> float:
        """Steps below it settle at a data point, steps above it do not: 2 / stiffness for plain descent, less with
        look-ahead, whose delayed slope overshoots."""
        return 2 / (self.stiffness * (1 + 2 * look_ahead))


@dataclass(frozen=True, kw_only=True)
class Descent:
    """residual: root mean square of the field where each row was last evaluated."""

    state: Float[Tensor, "b h a"]
    evaluations: Int[Tensor, " b"]
    residual: Float[Tensor, " b"]


def descend(
    field: Field, start: Float[Tensor, "b h a"], *, step: float, look_ahead: float = 0.0, stop: float = 0.0,
    budget: Budget,
) -> Descent:  # fmt: skip
    """Go down `field` in steps of `step` times its value. look_ahead: the field is read where that share of the last
    step would lead (EqM's Nesterov form; it accumulates no velocity). stop: a row whose residual is not above it takes
    this last step and then rests, bit for bit; `field` is still asked for it, as rows of a batch go together, but such
    an evaluation is not counted for it. `field` is given time 0.
    """
    state, slope = start, torch.zeros_like(start)
    time = start.new_zeros(len(start))
    residual = torch.full_like(time, math.inf)
    moving = torch.ones_like(time, dtype=torch.bool)
    evaluations = torch.zeros_like(time, dtype=torch.long)
    meter = Metered(field, budget, start.device)
    while meter.left() != 0:
        slope = meter(state - step * look_ahead * slope, time)
        residual = torch.where(moving, slope.square().mean((1, 2)).sqrt(), residual)
        state = torch.where(moving[:, None, None], state - step * slope, state)
        evaluations = evaluations + moving
        moving = moving & (residual > stop)
        if stop and not moving.any():
            break
    return Descent(state=state, evaluations=evaluations, residual=residual)


def exact_field(
    chunks: Float[Tensor, "b h a"], bank: Float[Tensor, "n h a"], weights: Float[Tensor, "b n"], *, decay: Decay,
    nodes: int = 64,
) -> Float[Tensor, "b h a"]:  # fmt: skip
    """The field that minimises the objective when the data are `bank` and nothing else, row i of the batch drawing
    from it with chances proportional to `weights[i]`: the mean of the targets over everything that may have led to
    `chunks`. gamma is integrated by the midpoint rule on `nodes` points, in double precision.
    """
    here, atoms = chunks.flatten(1).double(), bank.flatten(1).double()
    gamma = (torch.arange(nodes, device=here.device, dtype=here.dtype) + 0.5) / nodes
    across = (here @ atoms.T)[..., None]
    lengths = here.square().sum(-1)[:, None, None], atoms.square().sum(-1)[None, :, None]
    squared = (lengths[0] - 2 * gamma * across + gamma**2 * lengths[1]).clamp_min(0)
    left = 1 - gamma
    score = weights.double().log()[..., None] - here.shape[1] * left.log() - squared / (2 * left**2)
    chance = score.flatten(1).softmax(-1).view_as(score)
    pull = (chance * decay(gamma) / left).sum(-1)
    return (pull.sum(-1, keepdim=True) * here - pull @ atoms).view_as(chunks).to(chunks.dtype)
