"""Layers with weights of their own that read a backbone's keys and values, layer by layer (the action expert of pi0,
arXiv 2410.24164). Gemma's layers, as there: RMSNorm, grouped-query attention, a GELU-gated MLP; rotary positions go on
where the context's end, if its keys have them."""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from volar.core.model import Context, LayerShape
from volar.nn.llama import LlamaLayer, angles


class Expert(nn.Module):
    """As many layers as the backbone has, of any width. Of the context, nothing is computed."""

    frequencies: Tensor

    def __init__(self, shape: LayerShape, *, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            LlamaLayer(
                width=width, hidden=hidden, heads=shape.heads, key_heads=shape.key_heads, head_dim=shape.head_dim,
                epsilon=1e-6, activation=partial(F.gelu, approximate="tanh"),
            )
            for _ in range(shape.layers)
        )  # fmt: skip
        self.norm = nn.RMSNorm(width, eps=1e-6)
        # Without rotary positions every angle is 0, which turns nothing.
        frequencies = shape.frequencies or (0.0,) * (shape.head_dim // 2)
        self.register_buffer("frequencies", torch.tensor(frequencies), persistent=False)

    def forward(
        self, tokens: Float[Tensor, "b s d"], context: Context, sees: Bool[Tensor, "s s"]
    ) -> Float[Tensor, "b s d"]:
        """The states of `tokens`, which see the whole context and, by `sees`, one another."""
        assert context.layers is not None
        batch, size = tokens.shape[:2]
        mask = torch.cat([context.mask[:, None].expand(-1, size, -1), sees.expand(batch, size, size)], dim=-1)[:, None]
        places = torch.arange(size, device=tokens.device).expand(batch, size)
        angle = angles(places if context.position is None else context.position[:, None] + places, self.frequencies)
        for layer, (keys, values) in zip(self.layers, context.layers, strict=True):
            tokens, _ = layer(tokens, angle, mask, (keys.to(tokens.dtype), values.to(tokens.dtype)))
        return self.norm(tokens)
