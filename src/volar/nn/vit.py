"""A plain vision transformer with LayerScale: DINOv2's blocks (arXiv 2304.07193), no classifier, no registers.

The hidden states come out un-normalised, after as many blocks as it was built with.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class VisionBlock(nn.Module):
    """Pre-norm attention and MLP, each scaled per channel before it is added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width, eps=1e-6)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.scale_attention = nn.Parameter(torch.ones(width))
        self.norm_mlp = nn.LayerNorm(width, eps=1e-6)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)
        self.scale_mlp = nn.Parameter(torch.ones(width))

    def forward(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        normed = self.norm_attention(hidden)
        query, key, value = (
            rearrange(project(normed), "b t (n d) -> b n t d", n=self.heads)
            for project in (self.query, self.key, self.value)
        )
        mixed = rearrange(F.scaled_dot_product_attention(query, key, value), "b n t d -> b t (n d)")
        hidden = hidden + self.scale_attention * self.out(mixed)
        return hidden + self.scale_mlp * self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(hidden))))


class VisionTransformer(nn.Module):
    """Pictures -> [class token | patch tokens] after `depth` blocks.

    grid: side, in patches, of the stored position table; other sizes interpolate it. Defaults are DINOv2-small.
    """

    def __init__(self, *, depth: int, width: int = 384, heads: int = 6, patch: int = 14, grid: int = 37) -> None:
        super().__init__()
        self.patch = patch
        self.grid = grid
        self.patches = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.blocks = nn.ModuleList(VisionBlock(width, heads) for _ in range(depth))

    def positions(self, rows: int, columns: int) -> Float[Tensor, "1 t d"]:
        """The position table for a rows x columns picture, bicubic as in DINOv2 (without its +0.1 scale offset,
        which its Hugging Face version dropped too)."""
        if rows == columns == self.grid:
            return self.position
        table = rearrange(self.position[:, 1:], "1 (y x) d -> 1 d y x", y=self.grid)
        table = F.interpolate(table, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([self.position[:, :1], rearrange(table, "1 d y x -> 1 (y x) d")], dim=1)

    def forward(self, pixels: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b t d"]:
        """pixels: normalised as the weights want it; both sides must be multiples of `patch`."""
        if pixels.shape[-2] % self.patch or pixels.shape[-1] % self.patch:
            raise ValueError(f"Picture sides must be multiples of {self.patch}, got {list(pixels.shape[-2:])}.")
        grid = self.patches(pixels)
        hidden = rearrange(grid, "b d y x -> b (y x) d")
        hidden = torch.cat([self.class_token.expand(hidden.shape[0], -1, -1), hidden], dim=1)
        hidden = hidden + self.positions(grid.shape[-2], grid.shape[-1])
        for block in self.blocks:
            hidden = block(hidden)
        return hidden
