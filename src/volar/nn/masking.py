"""Who sees whom in blocks of tokens, how many tokens are masked when, and which are kept: the arithmetic of masked
("absorbing") discrete diffusion (MDLM arXiv 2406.07524, LLaDA arXiv 2502.09992, MaskGIT arXiv 2202.04200)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Schedule = Literal["linear", "cosine"]
Order = Literal["token", "group", "hierarchical"]


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


def most_confident(
    confidence: Float[Tensor, "b s"], hidden: Bool[Tensor, "b s"], count: Int[Tensor, " b"], *,
    order: Order = "token", group: Int[Tensor, " s"] | None = None,
) -> Bool[Tensor, "b s"]:  # fmt: skip
    """Which hidden tokens to keep: `count` of each row, or all where fewer are hidden.

    confidence: log-probabilities. group: the number of each token's group, for the orders other than "token". "group"
    keeps whole groups, the one whose hidden tokens are likeliest together first, until there are `count` tokens
    (DIVA, OpenReview mNya9d1DA2); "hierarchical" takes groups in the same order and the last one in part, its surest
    tokens first (LLaDA-VLA, arXiv 2509.06932).
    """
    if order == "token" or group is None:
        return hidden & (_rank(confidence.masked_fill(~hidden, -torch.inf)) < count[:, None])
    member = F.one_hot(group).to(confidence.dtype)  # [s groups]
    together = confidence.masked_fill(~hidden, 0.0) @ member
    num_hidden = hidden.to(confidence.dtype) @ member
    place = _rank(together.masked_fill(num_hidden == 0, -torch.inf))
    if order == "hierarchical":
        key = place[:, group] * hidden.shape[1] + _rank(confidence)
        return hidden & (_rank(-key.to(confidence.dtype).masked_fill(~hidden, torch.inf)) < count[:, None])
    hidden_in_order = num_hidden.gather(1, place.argsort(-1))
    before = hidden_in_order.cumsum(-1) - hidden_in_order
    return hidden & (before.gather(1, place)[:, group] < count[:, None])


def _rank(values: Float[Tensor, "b s"]) -> Int[Tensor, "b s"]:
    """0 for the largest of a row; ties by place."""
    return values.argsort(dim=-1, descending=True, stable=True).argsort(-1)
