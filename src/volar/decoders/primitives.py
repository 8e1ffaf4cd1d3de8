"""One pass that gives a movement primitive instead of a chunk: start, speed, goal and weights or via points per action
dimension, learned through the linear map to the chunk (ProDMP, arXiv 2210.01531). Smooth by construction."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from volar.core.errors import ConfigError, unknown_name
from volar.core.model import Context, Decoder, Sample, masked_mean
from volar.nn.primitives.discrete import Discrete, discrete_response
from volar.nn.primitives.via import via_rows
from volar.nn.transformer import full_mask

SHAPES = ("weights", "via_points")
LONGEST = 2.0  # a learned duration lies between the horizon divided by this and times this


class Primitives(Decoder):
    """`count` + 3 queries in place of one per step, so its cost does not grow with the horizon. Like `regression` it
    gives the median of what was demonstrated. A gripper that snaps is a smooth flank to it."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """shape: what bends the motion between start and goal, "weights" or "via_points"; `count` of them per
        dimension. duration: learn how long the motion takes, too, instead of one horizon."""

        shape: str = "weights"
        count: int = 5
        duration: bool = False

        def __post_init__(self) -> None:
            if self.shape not in SHAPES:
                raise unknown_name("shape of a primitive", self.shape, SHAPES)
            if self.count < 2:
                raise ConfigError(f"A primitive needs a count of at least 2, got {self.count}.")

    rows: Tensor
    scale: Tensor

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int) -> None:
        super().__init__()
        self.config = config
        self.response = discrete_response(Discrete(weights=config.count), last=LONGEST)
        self.points = [(number + 1) / (config.count + 1) for number in range(config.count)]
        self.queries = nn.Parameter(torch.randn(config.count + 3 + config.duration, width) * 0.02)
        self.out = nn.Linear(width, action_dim)
        self.pace = nn.Linear(width, 1) if config.duration else None
        self.moments = torch.linspace(0, 1, horizon, dtype=torch.float64)
        rows = self._rows_at(self.moments)
        # A weight moves the chunk by hundredths; all numbers that are learned shall move it alike.
        scale = rows.square().mean(0).sqrt().clamp_min(1e-3)
        self.register_buffer("scale", scale.float(), persistent=False)
        self.register_buffer("rows", rows.float(), persistent=False)

    def forward(self, context: Context) -> Float[Tensor, "b h a"]:
        queries = self.queries.expand(len(context.tokens), -1, -1)
        hidden = context.extend(queries, full_mask(len(self.queries), queries.device)).hidden
        values = self.out(hidden[:, : len(self.scale)])
        if self.pace is None:
            return (self.rows / self.scale) @ values
        paces = (self.pace(hidden[:, -1]).tanh() * math.log(LONGEST)).exp()
        return (self._rows_at(self.moments.to(paces) * paces).to(values) / self.scale) @ values

    def _rows_at(self, s: Float[Tensor, "*b h"]) -> Float[Tensor, "*b h m"]:
        if self.config.shape == "weights":
            return self.response.at(s)
        return via_rows(self.response, s, self.points)

    def loss(
        self, context: Context, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"],
        *, generator: torch.Generator | None = None,
    ) -> Float[Tensor, " b"]:  # fmt: skip
        return masked_mean((self(context) - actions).abs().mean(-1), valid)

    def sample(self, context: Context, *, generator: torch.Generator | None = None) -> Sample:
        return Sample.after(1, self(context))
