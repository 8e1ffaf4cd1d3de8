"""Who sees whom in blocks of tokens, how many tokens are masked when, and which are kept: the arithmetic of masked
("absorbing") discrete diffusion (MDLM arXiv 2406.07524, LLaDA arXiv 2502.09992, MaskGIT arXiv 2202.04200)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Schedule = Literal["linear", "cosine"]


def block_mask(size: int, block: int, device: torch.device | str = "cpu") -> Bool[Tensor, "s s"]:
    """Full within a block of tokens, causal across blocks."""
    number = torch.arange(size, device=device) // block
    return number[None, :] <= number[:, None]


def masked_share(schedule: Schedule, done: float) -> float:
    """Of the tokens, when `done` (0..1) of the way from noise to data is gone. Cosine commits few tokens at first,
    when those that choose between modes are chosen."""
    return 1 - done if schedule == "linear" else math.cos(math.pi / 2 * done)


@dataclass(frozen=True)
class Masking:
    """masked: which tokens to hide. weight: with it, the mean cross-entropy of a row's hidden tokens is an unbiased
    estimate of the bound on its negative log-likelihood per token (the NELBO)."""

    masked: Bool[Tensor, "b s"]
    weight: Float[Tensor, " b"]


def draw_masking(
    rows: int, size: int, schedule: Schedule, *, generator: torch.Generator | None, device: torch.device
) -> Masking:
    """For each row a number of hidden tokens, at least one, and that many places.

    With m of n hidden and m uniform, n/m is LLaDA's 1/t for a fixed number (its equation 14); other schedules draw m
    more often where it is large and weigh it less, by the ratio of the two chances. Times are spread evenly over the
    rows (MDLM's antithetic sampling).
    """
    times = (torch.rand(1, generator=generator, device=device) + torch.arange(rows, device=device) / rows) % 1
    cumulative = hidden_cumulative(size, schedule, device)
    hidden = torch.searchsorted(cumulative, times, right=True).clamp(1, size)
    chance = cumulative[hidden] - cumulative[hidden - 1]
    order = torch.rand((rows, size), generator=generator, device=device).argsort(-1).argsort(-1)
    return Masking(masked=order < hidden[:, None], weight=1 / (size * chance))


def hidden_cumulative(size: int, schedule: Schedule, device: torch.device | str = "cpu") -> Float[Tensor, " s1"]:
    """Chance that at most m of `size` tokens are hidden, m = 0..size, when the share is drawn from the schedule at a
    uniform time and rounded up."""
    share = torch.arange(size + 1, device=device) / size
    return share if schedule == "linear" else 1 - torch.arccos(share) * (2 / math.pi)
