"""One pass, L1 loss: learned queries read the context and give the whole chunk (OpenVLA-OFT, arXiv 2502.19645)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from volar.core.model import Context, Decoder, Sample, masked_mean
from volar.nn.transformer import full_mask


class Regression(Decoder):
    """The strong, cheap baseline. It gives the median of what was demonstrated, so it cannot keep two modes apart."""

    @dataclass(frozen=True, kw_only=True)
    class Config: ...

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(horizon, width) * 0.02)
        self.out = nn.Linear(width, action_dim)

    def forward(self, context: Context) -> Float[Tensor, "b h a"]:
        queries = self.queries.expand(len(context.tokens), -1, -1)
        return self.out(context.extend(queries, full_mask(len(self.queries), queries.device)).hidden)

    def loss(
        self, context: Context, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"],
        *, generator: torch.Generator | None = None,
    ) -> Float[Tensor, " b"]:  # fmt: skip
        return masked_mean((self(context) - actions).abs().mean(-1), valid)

    def sample(self, context: Context, *, generator: torch.Generator | None = None) -> Sample:
        return Sample.after(1, self(context))
