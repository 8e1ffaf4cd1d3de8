"""Transformer blocks whose prefix is computed once and can then be continued by new tokens.

`Trunk` is what small backbones hand out as a Context; not a language model.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from volar.core.model import Context, Extended, LayerShape


def causal_mask(size: int, device: torch.device | str = "cpu") -> Bool[Tensor, "s s"]:
    """Token i sees new tokens 0..i."""
    return torch.ones(size, size, dtype=torch.bool, device=device).tril()


def full_mask(size: int, device: torch.device | str = "cpu") -> Bool[Tensor, "s s"]:
    """Every new token sees every new token."""
    return torch.ones(size, size, dtype=torch.bool, device=device)


def real_tokens(sees: Bool[Tensor, "*rows s s"], rows: int, size: int) -> Bool[Tensor, "b s"]:
    """Who of `size` new tokens is no padding: whoever sees itself; see `Context`. ValueError for another shape."""
    if sees.shape not in ((size, size), (rows, size, size)):
        raise ValueError(f"sees must be [{size} {size}] for {size} new tokens, got {list(sees.shape)}.")
    return sees.diagonal(dim1=-2, dim2=-1).expand(rows, size)


def sinusoid(positions: Float[Tensor, " *batch"], width: int, *, low: float = 4e-3, high: float = 4.0) -> Tensor:
    """Sine-cosine embedding [*batch width] with periods geometric from `low` to `high` (pi0's constants for
    times in [0, 1]; arXiv 2410.24164). `width` must be even."""
    assert width % 2 == 0
    fraction = torch.linspace(0.0, 1.0, width // 2, device=positions.device)
    period = low * (high / low) ** fraction
    angle = positions[..., None] * (2 * torch.pi / period)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class Block(nn.Module):
    """Pre-norm attention and MLP over new tokens that also see given keys and values."""

    def __init__(self, width: int, heads: int, *, expansion: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))

    def keys_values(self, context: Float[Tensor, "b t d"]) -> tuple[Tensor, Tensor]:
        return self._split(self.norm_context(context))

    def _split(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = rearrange(self.key_value(normed), "b t (two n d) -> two b n t d", two=2, n=self.heads)
        return keys, values

    def forward(
        self, new: Float[Tensor, "b s d"], prefix: tuple[Tensor, Tensor], mask: Bool[Tensor, "b 1 s ts"]
    ) -> tuple[Float[Tensor, "b s d"], tuple[Tensor, Tensor]]:
        """The new tokens' states, and the keys and values of prefix and new tokens together."""
        normed = self.norm_attention(new)
        query = rearrange(self.query(normed), "b s (n d) -> b n s d", n=self.heads)
        keys, values = self._split(normed)
        keys, values = torch.cat([prefix[0], keys], dim=2), torch.cat([prefix[1], values], dim=2)
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        new = new + self.out(rearrange(mixed, "b n s d -> b s (n d)"))
        return new + self.mlp(self.norm_mlp(new)), (keys, values)


@dataclass(frozen=True)
class Prefix:
    """A context as each layer of a Trunk sees it: keys and values [b heads t d_head], and who is padding."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    mask: Bool[Tensor, "b t"]


@dataclass(frozen=True)
class Extension:
    """The states of new tokens, and the prefix that they are now part of."""

    hidden: Float[Tensor, "b s d"]
    prefix: Prefix


class Trunk(nn.Module):
    """`depth` blocks. The prefix is projected once per layer and does not attend to itself, so its cost does not
    grow with depth squared and no iteration of a decoder pays for it again."""

    def __init__(self, width: int, *, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.layer_shape = LayerShape(layers=depth, heads=heads, key_heads=heads, head_dim=width // heads)

    def prefix(self, tokens: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Prefix:
        return Prefix(tuple(block.keys_values(tokens) for block in self.blocks), mask)  # type: ignore[operator]

    def extend(self, prefix: Prefix, new: Float[Tensor, "b s d"], sees: Bool[Tensor, "*rows s s"]) -> Extension:
        batch, size = new.shape[:2]
        real = real_tokens(sees, batch, size)
        seen_prefix = prefix.mask[:, None].expand(batch, size, -1)
        mask = torch.cat([seen_prefix, sees & real[:, None]], dim=-1)[:, None]
        layers = []
        for block, keys_values in zip(self.blocks, prefix.layers, strict=True):
            new, longer = block(new, keys_values, mask)
            layers.append(longer)
        grown = torch.cat([prefix.mask, real], dim=1)
        return Extension(self.norm(new), Prefix(tuple(layers), grown))

    def context(
        self, tokens: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], *, hint: Float[Tensor, "b 1 d"] | None = None
    ) -> Context:
        """`tokens` as a Context that this trunk continues. hint: added to every new token."""
        return self._context(tokens, self.prefix(tokens, mask), hint)

    def _context(self, tokens: Tensor, prefix: Prefix, hint: Tensor | None) -> Context:
        def extend(new: Float[Tensor, "b s d"], sees: Bool[Tensor, "*rows s s"]) -> Extended:
            longer = self.extend(prefix, new if hint is None else new + hint, sees)
            seen = torch.cat([tokens, longer.hidden], dim=1)
            return Extended(hidden=longer.hidden, context=self._context(seen, longer.prefix, hint))

        return Context(tokens=tokens, mask=prefix.mask, extend=extend, layers=prefix.layers)
