"""Mathematics of Equilibrium Matching (arXiv 2510.02300): one field without time whose resting points are the data.

Here gamma 0 is noise and gamma 1 is data, x_gamma = gamma * data + (1 - gamma) * noise, and the field points uphill,
from data to noise, so that samplers subtract it. The authors' code learns the negative and adds it.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import (
    UNLIMITED,
    Budget,
    Context,
    Field,
    FieldDecoder,
    Sample,
    WarmStart,
    WarmStartDecoder,
    masked_mean,
)
from volar.nn.budget import Metered
from volar.nn.flow import interpolate


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
        if stop:
            moving = moving & (residual > stop)
            if not moving.any():
                break
    return Descent(state=state, evaluations=evaluations, residual=residual)


def exact_field(
    chunks: Float[Tensor, "b h a"], bank: Float[Tensor, "b n h a"], weights: Float[Tensor, "b n"], *, decay: Decay,
    nodes: int = 64,
) -> Float[Tensor, "b h a"]:  # fmt: skip
    """The field that minimises the objective where row i's data are the chunks `bank[i]` and nothing else, drawn with
    chances proportional to `weights[i]`: the mean of the targets over everything that may have led to `chunks`. gamma
    is integrated by the midpoint rule on `nodes` points, in double precision.
    """
    here, atoms = chunks.flatten(1).double(), bank.flatten(2).double()
    gamma = (torch.arange(nodes, device=here.device, dtype=here.dtype) + 0.5) / nodes
    across = torch.einsum("bd,bnd->bn", here, atoms)[..., None]
    lengths = here.square().sum(-1)[:, None, None], atoms.square().sum(-1)[..., None]
    squared = (lengths[0] - 2 * gamma * across + gamma**2 * lengths[1]).clamp_min(0)
    left = 1 - gamma
    score = weights.double().log()[..., None] - here.shape[1] * left.log() - squared / (2 * left**2)
    chance = score.flatten(1).softmax(-1).view_as(score)
    pull = (chance * decay(gamma) / left).sum(-1)
    toward = torch.einsum("bn,bnd->bd", pull, atoms)
    return (pull.sum(-1, keepdim=True) * here - toward).view_as(chunks).to(chunks.dtype)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every decoder by equilibrium matching can choose. strength, turn, start are learned with, the rest can be
    changed after training.

    strength, turn, start: of the `Decay`. step, look_ahead: of the descent. Near the data a step of 1 / stiffness is
    the fastest; EqM's sampler looks 0.3 ahead, which arrives no sooner. stop: root mean square of the field at which a
    row rests; on the way it is about 1.4 * strength, and 0 never stops early. evaluations: at most, per chunk; a
    limited budget takes its place. reuse: the share of a chunk that may come from the previous one (pi0-EqM: 0.5); the
    rest is noise.
    """

    strength: float = 4.0
    turn: float = 0.8
    start: float = 1.0
    step: float = 0.05
    look_ahead: float = 0.0
    stop: float = 0.5
    evaluations: int = 64
    reuse: float = 0.0

    def __post_init__(self) -> None:
        if self.evaluations < 1 or self.stop < 0 or not 0 <= self.reuse <= 1 or not 0 <= self.look_ahead <= 1:
            raise ConfigError(
                f"Equilibrium: evaluations must be at least 1, stop at least 0, reuse and look_ahead in 0..1; got "
                f"evaluations={self.evaluations}, stop={self.stop}, reuse={self.reuse}, look_ahead={self.look_ahead}."
            )
        largest = self.decay.largest_step(self.look_ahead)
        if not 0 < self.step < largest:
            raise ConfigError(
                f"Equilibrium: step {self.step} cannot settle; with strength={self.strength}, turn={self.turn} and "
                f"look_ahead={self.look_ahead} it must be positive and below {largest:.3g}."
            )

    @property
    def decay(self) -> Decay:
        return Decay(strength=self.strength, turn=self.turn, start=self.start)


class RestingDecoder(FieldDecoder, WarmStartDecoder):
    """A FieldDecoder whose field has no time and points uphill, and whose chunks are where it vanishes. A chunk takes
    as many evaluations as it needs; `Sample.strangeness` is the size of the field that was left: compare it after
    equally many evaluations and without a stop, since sooner or later every row comes to rest, strange or not."""

    shape: tuple[int, int]

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """Its config, or the part of it that all such decoders have."""

    @property
    def meaning(self) -> str:
        decay = self.settings.decay
        return f"ascent of an energy, strength {decay.strength:g}, turn {decay.turn:g}, start {decay.start:g}"

    @property
    def warm(self) -> bool:
        return self.settings.reuse > 0

    def loss(
        self, context: Context, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"],
        *, generator: torch.Generator | None = None,
    ) -> Float[Tensor, " b"]:  # fmt: skip
        """In units of strength squared, so that it can be compared with flow matching's."""
        noise = torch.randn(actions.shape, generator=generator, device=actions.device)
        gamma = torch.rand(len(actions), generator=generator, device=actions.device)
        predicted = self.field(context, interpolate(actions, noise, 1 - gamma), torch.zeros_like(gamma))
        target = self.settings.decay(gamma)[:, None, None] * (noise - actions)
        return masked_mean(((predicted - target) / self.settings.strength).square().mean(-1), valid)

    def solve(
        self, field: Field, *, rows: int, device: torch.device, generator: torch.Generator | None = None,
        budget: Budget = UNLIMITED, start: WarmStart | None = None,
    ) -> Sample:  # fmt: skip
        """start: where known, and within `Settings.reuse`, chunks set out from there instead of from noise."""
        settings, horizon = self.settings, self.shape[0]
        state = torch.randn((rows, *self.shape), generator=generator, device=device)
        if start is not None:
            early = torch.arange(horizon, device=device) < round(settings.reuse * horizon)
            state = torch.where((start.known & early)[..., None], start.actions, state)
        end = descend(
            field, state, step=settings.step, look_ahead=settings.look_ahead, stop=settings.stop,
            budget=budget if budget.limited else Budget(evaluations=settings.evaluations),
        )  # fmt: skip
        return Sample(actions=end.state, evaluations=end.evaluations, strangeness=end.residual)

    def sample(
        self, context: Context, *, generator: torch.Generator | None = None, budget: Budget = UNLIMITED,
        start: WarmStart | None = None,
    ) -> Sample:  # fmt: skip
        rows, device = len(context.tokens), context.tokens.device
        field = self.field_in(context)
        return self.solve(field, rows=rows, device=device, generator=generator, budget=budget, start=start)

    def field_in(self, context: Context) -> Field:
        """`field` in one context, for many evaluations."""
        return partial(self.field, context)
