"""A Llama-style decoder (RMSNorm, rotary positions, grouped-query attention, SwiGLU; arXiv 2302.13971).

Plain torch, so that SmolLM2 runs without transformers. Not a sampler: it returns hidden states and logits.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class LlamaShape:
    """Sizes. Defaults are SmolLM2-135M; `layers` below 30 keeps its first layers."""

    layers: int = 30
    width: int = 576
    hidden: int = 1536
    heads: int = 9
    key_heads: int = 3
    vocabulary: int = 49152
    rotary_base: float = 100_000.0
    epsilon: float = 1e-5


@dataclass(frozen=True, kw_only=True)
class LlamaStates:
    """hidden: [b s d] after the last layer, before the final norm. layers: per layer keys (rotated) and values
    [b key_heads t+s d_head], past included; give them back as `past` to continue."""

    hidden: Float[Tensor, "b s d"]
    layers: tuple[KeysValues, ...]


def rotate(states: Float[Tensor, "b n s d"], angle: Float[Tensor, "b 1 s d"]) -> Float[Tensor, "b n s d"]:
    """Rotary embedding, half-split layout: channel i turns with channel i + d/2 (as in Hugging Face's Llama)."""
    first, second = states.chunk(2, dim=-1)
    return states * angle.cos() + torch.cat([-second, first], dim=-1) * angle.sin()


def angles(positions: Int[Tensor, "b s"], frequencies: Float[Tensor, " half"]) -> Float[Tensor, "b 1 s d"]:
    """What `rotate` turns by at each position; frequencies in radians per position."""
    angle = positions[:, None, :, None].float() * frequencies
    return torch.cat([angle, angle], dim=-1)


class LlamaLayer(nn.Module):
    """`activation`: of the MLP's gate; SiLU makes it Llama's, GELU Gemma's."""

    def __init__(
        self, *, width: int, hidden: int, heads: int, key_heads: int, head_dim: int, epsilon: float,
        activation: Callable[[Tensor], Tensor] = F.silu,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.key_heads, self.activation = heads, key_heads, activation
        self.norm_attention = nn.RMSNorm(width, eps=epsilon)
        self.query = nn.Linear(width, heads * head_dim, bias=False)
        self.key = nn.Linear(width, key_heads * head_dim, bias=False)
        self.value = nn.Linear(width, key_heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, width, bias=False)
        self.norm_mlp = nn.RMSNorm(width, eps=epsilon)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(
        self, hidden: Float[Tensor, "b s d"], angle: Tensor, sees: Bool[Tensor, "b 1 s ts"], past: KeysValues | None
    ) -> tuple[Float[Tensor, "b s d"], KeysValues]:
        normed = self.norm_attention(hidden)
        query = rotate(rearrange(self.query(normed), "b s (n d) -> b n s d", n=self.heads), angle)
        key = rotate(rearrange(self.key(normed), "b s (n d) -> b n s d", n=self.key_heads), angle)
        value = rearrange(self.value(normed), "b s (n d) -> b n s d", n=self.key_heads)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=sees, enable_gqa=True)
        hidden = hidden + self.out(rearrange(mixed, "b n s d -> b s (n d)"))
        normed = self.norm_mlp(hidden)
        return hidden + self.down(self.activation(self.gate(normed)) * self.up(normed)), (key, value)


class Llama(nn.Module):
    """Embeddings -> hidden states, with keys and values kept per layer; the output head is tied to the embedding."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(
            LlamaLayer(
                width=shape.width, hidden=shape.hidden, heads=shape.heads, key_heads=shape.key_heads,
                head_dim=shape.width // shape.heads, epsilon=shape.epsilon,
            )
            for _ in range(shape.layers)
        )  # fmt: skip
        self.norm = nn.RMSNorm(shape.width, eps=shape.epsilon)

    def forward(
        self,
        embeddings: Float[Tensor, "b s d"],
        *,
        mask: Bool[Tensor, "b ts"] | None = None,
        past: tuple[KeysValues, ...] | None = None,
    ) -> LlamaStates:
        """Causal over past and new. mask: over past and new, False is padding, on either side; None = no padding.
        Positions count real tokens only. What stands at padding in the result has no meaning."""
        batch, size = embeddings.shape[:2]
        before = past[0][0].shape[2] if past is not None else 0
        if mask is None:
            mask = torch.ones(batch, before + size, dtype=torch.bool, device=embeddings.device)
        sees = torch.ones(size, before + size, dtype=torch.bool, device=mask.device).tril(before)
        sees = sees & mask[:, None, None]
        # A row of padding that sees nothing would make the softmax undefined: let every token see itself.
        own = torch.eye(size, before + size, dtype=torch.bool, device=mask.device).roll(before, dims=1)
        angle = self._angles((mask.long().cumsum(dim=1) - 1).clamp_min(0)[:, before:])
        hidden, layers = embeddings, []
        for index, layer in enumerate(self.layers):
            hidden, keys_values = layer(hidden, angle, sees | own, past[index] if past is not None else None)
            layers.append(keys_values)
        return LlamaStates(hidden=hidden, layers=tuple(layers))

    def logits(self, hidden: Float[Tensor, "b s d"]) -> Float[Tensor, "b s k"]:
        """Next-token logits of hidden states after the last layer; meaningless when built with fewer layers."""
        return F.linear(self.norm(hidden), self.embedding.weight)

    def _angles(self, positions: Int[Tensor, "b s"]) -> Float[Tensor, "b 1 s d"]:
        head = self.shape.width // self.shape.heads
        fraction = torch.arange(0, head, 2, device=positions.device, dtype=torch.float32) / head
        return angles(positions, self.shape.rotary_base**-fraction)
