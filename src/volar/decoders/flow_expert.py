"""Flow matching by an expert of its own weights (pi0, arXiv 2410.24164): each of its layers reads the keys and values
that the backbone's layer of the same depth made of the context, once per chunk; the backbone's own layers never run
on actions. Proprioception is the backbone's to read, so that it is in the context already."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from volar.core.errors import ConfigError
from volar.core.model import (
    UNLIMITED,
    Budget,
    Context,
    Field,
    FieldDecoder,
    LayeredDecoder,
    LayerShape,
    Sample,
)
from volar.nn.expert import Expert
from volar.nn.flow import VELOCITY, Solver, integrate, matching_loss, require_steps
from volar.nn.transformer import full_mask, sinusoid


class FlowExpert(FieldDecoder, LayeredDecoder):
    """Generative. The field is the velocity, data to noise."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """width: of the expert, even; None takes the backbone's (pi0: half of it). expansion: the MLP's hidden numbers
        for each number of width. steps and solver can be changed after training; beta_alpha, beta_beta shape the times
        trained on."""

        width: int | None = None
        expansion: float = 4.0
        steps: int = 10
        solver: Solver = "euler"
        beta_alpha: float = 1.5
        beta_beta: float = 1.0

        def __post_init__(self) -> None:
            require_steps(self.steps, self.solver)
            if self.width is not None and (self.width < 2 or self.width % 2):
                raise ConfigError(f"FlowExpert: width must be an even number above 0, got {self.width}.")
            if self.expansion <= 0:
                raise ConfigError(f"FlowExpert: expansion must be positive, got {self.expansion}.")

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int, layers: LayerShape) -> None:
        super().__init__()
        self.config, self.width, self.shape = config, config.width or width, (horizon, action_dim)
        width = self.width
        self.expert = Expert(layers, width=width, hidden=round(config.expansion * width))
        # Rotary positions tell the steps apart where the backbone has them.
        self.position = None if layers.frequencies else nn.Parameter(torch.randn(horizon, width) * 0.02)
        self.action_in = nn.Linear(action_dim, width)
        self.action_time = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.out = nn.Linear(width, action_dim)

    @property
    def meaning(self) -> str:
        return VELOCITY

    def tokens(self, chunks: Float[Tensor, "b h a"], time: Float[Tensor, " b"]) -> Float[Tensor, "b h d"]:
        """What the expert reads: one token per step, the time mixed into each."""
        tokens = self.action_in(chunks)
        time_tokens = sinusoid(time, self.width)[:, None].expand_as(tokens)
        tokens = self.action_time(torch.cat([tokens, time_tokens], dim=-1))
        return tokens if self.position is None else tokens + self.position

    def field(
        self, context: Context, chunks: Float[Tensor, "b h a"], time: Float[Tensor, " b"]
    ) -> Float[Tensor, "b h a"]:
        return self.out(self.expert(self.tokens(chunks, time), context, full_mask(chunks.shape[1], chunks.device)))

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
