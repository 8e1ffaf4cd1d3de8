"""The network that flow, diffusion and their relatives share: a noisy chunk and its time go in as tokens (pi0, arXiv
2410.24164), the backbone's own layers continue the context by them, and one vector per step comes out."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from volar.core.model import Context, FieldDecoder
from volar.nn.transformer import full_mask, sinusoid


class TimedDecoder(FieldDecoder):
    """A FieldDecoder whose field depends on time, 1 for noise and 0 for data; what the field means is the member's."""

    def __init__(self, *, width: int, horizon: int, action_dim: int) -> None:
        super().__init__()
        self.width, self.shape = width, (horizon, action_dim)
        self.position = nn.Parameter(torch.randn(horizon, width) * 0.02)
        self.action_in = nn.Linear(action_dim, width)
        self.action_time = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.out = nn.Linear(width, action_dim)

    def field(
        self, context: Context, chunks: Float[Tensor, "b h a"], time: Float[Tensor, " b"]
    ) -> Float[Tensor, "b h a"]:
        tokens = self.action_in(chunks)
        time_tokens = sinusoid(time, self.width)[:, None].expand_as(tokens)
        tokens = self.action_time(torch.cat([tokens, time_tokens], dim=-1)) + self.position
        return self.out(context.extend(tokens, full_mask(tokens.shape[1], tokens.device)).hidden)
