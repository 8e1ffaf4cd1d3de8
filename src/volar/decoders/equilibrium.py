"""Equilibrium matching over chunks (pi0-EqM, arXiv 2605.23128; EqM, arXiv 2510.02300): learn a field without time that
vanishes at the data, and go down it until it is small. Not a flow: nothing says when the end is reached but the field.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

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
from volar.nn.equilibrium import Decay, descend
from volar.nn.flow import interpolate
from volar.nn.transformer import full_mask


class Equilibrium(FieldDecoder, WarmStartDecoder):
    """Spends as many evaluations as a chunk needs. `Sample.strangeness` is the size of the field that was left."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """strength, turn, start and energy are learned with; the rest can be changed after training.

        strength, turn, start: of the decay, see `nn.equilibrium.Decay`. energy: "none" learns the field itself; "dot"
        and "norm" learn a scalar, chunk . output and |output|^2 / 2, whose gradient it is, at twice the cost.
        step, look_ahead: see `nn.equilibrium.descend`. stop: root mean square of the field at which a row rests; on
        the way it is about 1.4 * strength, and 0 never stops early. evaluations: at most, per chunk;
        a limited budget takes its place.
        reuse: the share of a chunk that may come from the previous one (pi0-EqM: 0.5), the rest is noise.
        """

        strength: float = 4.0
        turn: float = 0.8
        start: float = 1.0
        energy: Literal["none", "dot", "norm"] = "none"
        step: float = 0.03
        look_ahead: float = 0.3
        stop: float = 0.5
        evaluations: int = 64
        reuse: float = 0.0

        def __post_init__(self) -> None:
            if self.energy not in ("none", "dot", "norm"):
                raise ConfigError(f"Equilibrium: energy must be none, dot or norm, got {self.energy!r}.")
            if self.evaluations < 1 or self.stop < 0 or not 0 <= self.reuse <= 1 or not 0 <= self.look_ahead <= 1:
                raise ConfigError(
                    f"Equilibrium: evaluations must be at least 1, stop at least 0, reuse and look_ahead in 0..1; got "
                    f"evaluations={self.evaluations}, stop={self.stop}, reuse={self.reuse}, "
                    f"look_ahead={self.look_ahead}."
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

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int) -> None:
        super().__init__()
        self.config, self.shape = config, (horizon, action_dim)
        self.position = nn.Parameter(torch.randn(horizon, width) * 0.02)
        self.action_in = nn.Sequential(nn.Linear(action_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.out = nn.Linear(width, action_dim)

    @property
    def warm(self) -> bool:
        return self.config.reuse > 0

    def _output(self, context: Context, chunks: Float[Tensor, "b h a"]) -> Float[Tensor, "b h a"]:
        tokens = self.action_in(chunks) + self.position
        return self.config.strength * self.out(
            context.extend(tokens, full_mask(len(self.position), tokens.device)).hidden
        )

    def energy(self, context: Context, chunks: Float[Tensor, "b h a"]) -> Float[Tensor, " b"]:
        """The scalar whose gradient is the field: low where chunks are likely. Energies of several policies add."""
        if self.config.energy == "none":
            raise ConfigError("This equilibrium decoder learned a field without an energy; train with energy='dot'.")
        output = self._output(context, chunks)
        if self.config.energy == "dot":
            return (chunks * output).sum((1, 2))
        return output.square().sum((1, 2)) / (2 * self.config.strength)

    def field(
        self, context: Context, chunks: Float[Tensor, "b h a"], time: Float[Tensor, " b"]
    ) -> Float[Tensor, "b h a"]:
        """Uphill, away from likely chunks. `time` has no meaning here."""
        if self.config.energy == "none":
            return self._output(context, chunks)
        learning = torch.is_grad_enabled()
        # Fused attention has no second derivative, and callers may have switched differentiation off.
        with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            point = chunks.clone().requires_grad_()
            energy = self.energy(context, point).sum()
            return torch.autograd.grad(energy, point, create_graph=learning)[0]

    def loss(
        self, context: Context, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"],
        *, generator: torch.Generator | None = None,
    ) -> Float[Tensor, " b"]:  # fmt: skip
        """In units of strength squared, so that it can be compared with flow matching's."""
        noise = torch.randn(actions.shape, generator=generator, device=actions.device)
        gamma = torch.rand(len(actions), generator=generator, device=actions.device)
        predicted = self.field(context, interpolate(actions, noise, 1 - gamma), gamma)
        target = self.config.decay(gamma)[:, None, None] * (noise - actions)
        return masked_mean(((predicted - target) / self.config.strength).square().mean(-1), valid)

    def solve(
        self, field: Field, *, rows: int, device: torch.device, generator: torch.Generator | None = None,
        budget: Budget = UNLIMITED, start: WarmStart | None = None,
    ) -> Sample:  # fmt: skip
        """start: where known, and within the config's `reuse`, chunks set out from there instead of from noise."""
        state = torch.randn((rows, *self.shape), generator=generator, device=device)
        if start is not None:
            early = torch.arange(self.shape[0], device=device) < round(self.config.reuse * self.shape[0])
            state = torch.where((start.known & early)[..., None], start.actions, state)
        config = self.config
        end = descend(
            field, state, step=config.step, look_ahead=config.look_ahead, stop=config.stop,
            budget=budget if budget.limited else Budget(evaluations=config.evaluations),
        )  # fmt: skip
        return Sample(actions=end.state, evaluations=end.evaluations, strangeness=end.residual)

    def sample(
        self, context: Context, *, generator: torch.Generator | None = None, budget: Budget = UNLIMITED,
        start: WarmStart | None = None,
    ) -> Sample:  # fmt: skip
        field, tokens = partial(self.field, context), context.tokens
        return self.solve(
            field, rows=len(tokens), device=tokens.device, generator=generator, budget=budget, start=start
        )
