"""Conditional flow matching over chunks (pi0, arXiv 2410.24164): learn the velocity from data to noise, then follow it.

Time is mixed into the action tokens, as in pi0; the context's keys and values are computed once per chunk.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from volar.core.errors import ConfigError
from volar.core.model import UNLIMITED, Budget, Context, Field, FieldDecoder, Sample, masked_mean
from volar.nn.flow import STEP_COST, Solver, integrate, interpolate, sample_time
from volar.nn.transformer import full_mask, sinusoid


class Flow(FieldDecoder):
    """Generative, hence able to keep several ways of doing a task apart."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """steps and solver can be changed after training; beta_alpha, beta_beta shape the times trained on."""

        steps: int = 10
        solver: Solver = "euler"
        beta_alpha: float = 1.5
        beta_beta: float = 1.0

        def __post_init__(self) -> None:
            if self.steps < 1:
                raise ConfigError(f"Flow: steps must be at least 1, got {self.steps}.")

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int) -> None:
        super().__init__()
        self.config, self.width, self.shape = config, width, (horizon, action_dim)
        self.position = nn.Parameter(torch.randn(horizon, width) * 0.02)
        self.action_in = nn.Linear(action_dim, width)
        self.action_time = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.out = nn.Linear(width, action_dim)

    def field(
        self, context: Context, chunks: Float[Tensor, "b h a"], time: Float[Tensor, " b"]
    ) -> Float[Tensor, "b h a"]:
        """The velocity, from data to noise, at `chunks`."""
        tokens = self.action_in(chunks)
        time_tokens = sinusoid(time, self.width)[:, None].expand_as(tokens)
        tokens = self.action_time(torch.cat([tokens, time_tokens], dim=-1)) + self.position
        return self.out(context.extend(tokens, full_mask(tokens.shape[1], tokens.device)).hidden)

    def loss(
        self, context: Context, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"],
        *, generator: torch.Generator | None = None,
    ) -> Float[Tensor, " b"]:  # fmt: skip
        noise = torch.randn(actions.shape, generator=generator, device=actions.device)
        time = sample_time(
            len(actions), alpha=self.config.beta_alpha, beta=self.config.beta_beta,
            generator=generator, device=actions.device,
        )  # fmt: skip
        predicted = self.field(context, interpolate(actions, noise, time), time)
        return masked_mean((predicted - (noise - actions)).square().mean(-1), valid)

    def solve(
        self, field: Field, *, rows: int, device: torch.device, generator: torch.Generator | None = None,
        budget: Budget = UNLIMITED,
    ) -> Sample:  # fmt: skip
        noise = torch.randn((rows, *self.shape), generator=generator, device=device)
        steps, solver = self.config.steps, self.config.solver
        return Sample.after(steps * STEP_COST[solver], integrate(field, noise, steps=steps, solver=solver))
