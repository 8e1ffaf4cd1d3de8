"""Discrete-time diffusion: the cosine schedule (arXiv 2102.09672) and the steps back from noise to data that keep to it
(DDPM arXiv 2006.11239, DDIM arXiv 2010.02502).

Level 0 is almost data, level n-1 almost noise. Checked against the schedulers of the diffusers library, which are not
used themselves because they bring a hub client and an HTTP client along.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def cosine_signal(levels: int) -> Float[Tensor, " levels"]:
    """Share of the data's variance left at each level (alpha-bar), float64; betas are capped at 0.999."""

    def kept(fraction: float) -> float:
        return math.cos((fraction + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - kept((level + 1) / levels) / kept(level / levels), 0.999) for level in range(levels)]
    return torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), dim=0)


def trailing_levels(levels: int, steps: int) -> list[int]:
    """The levels visited by `steps` <= `levels` steps, evenly spaced and beginning with pure noise, as they should be
    (arXiv 2305.08891): spacing them from the other end would start a short schedule in the middle."""
    return [round(levels - index * levels / steps) - 1 for index in range(steps)]


def diffuse(
    data: Float[Tensor, "b h a"], noise: Float[Tensor, "b h a"], signal: Float[Tensor, " b"]
) -> Float[Tensor, "b h a"]:
    weight = signal[:, None, None]
    return weight.sqrt() * data + (1 - weight).sqrt() * noise


def step_back(
    chunks: Float[Tensor, "b h a"], estimate: Float[Tensor, "b h a"], *, signal: float, before: float, spread: float,
    fresh: Float[Tensor, "b h a"],
) -> Float[Tensor, "b h a"]:  # fmt: skip
    """From the level that keeps `signal` to an earlier one that keeps `before`, if the data were `estimate`.

    spread: 0 is DDIM, whose result is fixed by its start; 1 adds as much of the noise `fresh` as DDPM does.
    """
    noise = (chunks - math.sqrt(signal) * estimate) / math.sqrt(1 - signal)
    deviation = spread * math.sqrt((1 - before) / (1 - signal) * (1 - signal / before))
    direction = math.sqrt(1 - before - deviation**2)
    return math.sqrt(before) * estimate + direction * noise + deviation * fresh
