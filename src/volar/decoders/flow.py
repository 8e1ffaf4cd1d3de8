"""Conditional flow matching over chunks (pi0, arXiv 2410.24164): learn the velocity from data to noise, then follow it.

Time is mixed into the action tokens, as in pi0; the context's keys and values are computed once per chunk.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from volar.core.model import UNLIMITED, Budget, Context, Field, Sample
from volar.nn.denoise import TimedDecoder
from volar.nn.flow import VELOCITY, Solver, integrate, matching_loss, require_steps


class Flow(TimedDecoder):
    """Generative, hence able to keep several ways of doing a task apart. The field is the velocity, data to noise."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """steps and solver can be changed after training; beta_alpha, beta_beta shape the times trained on."""

        steps: int = 10
        solver: Solver = "euler"
        beta_alpha: float = 1.5
        beta_beta: float = 1.0

        def __post_init__(self) -> None:
            require_steps(self.steps, self.solver)

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int) -> None:
        super().__init__(width=width, horizon=horizon, action_dim=action_dim)
        self.config = config

    @property
    def meaning(self) -> str:
        return VELOCITY

    def loss(
        self, context: Context, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"],
        *, generator: torch.Generator | None = None,
    ) -> Float[Tensor, " b"]:  # fmt: skip
        return matching_loss(
            partial(self.field, context), actions, valid,
            alpha=self.config.beta_alpha, beta=self.config.beta_beta, generator=generator,
        )  # fmt: skip

    def solve(
        self, field: Field, *, rows: int, device: torch.device, generator: torch.Generator | None = None,
        budget: Budget = UNLIMITED,
    ) -> Sample:  # fmt: skip
        noise = torch.randn((rows, *self.shape), generator=generator, device=device)
        return integrate(field, noise, steps=self.config.steps, solver=self.config.solver, budget=budget)
