"""Places on a picture as a distribution over a grid, and back with less than a cell's error.

A place is shared out bilinearly among the four grid points around it, so that the distribution's mean is the place
itself; reading takes the mean near the highest point only (a local soft-argmax), so that two peaks are never averaged.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def grid_points(side: int) -> Float[Tensor, "k 2"]:
    """u, v of side x side points, row by row; the outer ones lie on the picture's edge."""
    line = torch.linspace(0, 1, side)
    v, u = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([u, v], dim=-1).flatten(0, 1)


def spread(places: Float[Tensor, "*b 2"], side: int) -> Float[Tensor, "*b k"]:
    """The distribution over the grid whose mean is the place (u, v in 0..1): at most four points of it."""
    position = places * (side - 1)
    axis = torch.arange(side, device=places.device)
    share = (1 - (position[..., None] - axis).abs()).clamp(min=0)  # [*b 2 side], a hat around the place
    u, v = share.unbind(-2)
    return (v[..., :, None] * u[..., None, :]).flatten(-2)


def heat_loss(logits: Float[Tensor, "*b k"], places: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b"]:
    """Divergence of the map from the place's distribution: cross-entropy less what even a perfect map keeps."""
    wanted = spread(places, round(logits.shape[-1] ** 0.5))
    return F.kl_div(logits.log_softmax(-1), wanted, reduction="none").sum(-1)


def read_heat(logits: Float[Tensor, "*b k"]) -> Float[Tensor, "*b 2"]:
    """Mean of the map over the 3 x 3 points around its highest one."""
    side = round(logits.shape[-1] ** 0.5)
    points = grid_points(side).to(logits)
    peak = points[logits.argmax(-1)]
    near = ((points - peak[..., None, :]).abs() * (side - 1) < 1.5).all(-1)
    return logits.masked_fill(~near, float("-inf")).softmax(-1) @ points
