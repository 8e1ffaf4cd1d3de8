"""Masked tokens filled in round by round, the surest first (MaskGIT arXiv 2202.04200, Discrete Diffusion VLA arXiv
2508.20072): a loop over any function that gives logits for a row of tokens."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from volar.nn.masking import Order, Schedule, masked_share, most_confident
from volar.nn.speech import choose, gumbel

Read = Callable[[Int[Tensor, "b s"]], Float[Tensor, "b s k"]]


@dataclass(frozen=True, kw_only=True)
class Unmasking:
    """mask: the id that hides a token. temperature: 0 takes the likeliest tokens. order_temperature: noise on the order
    of keeping, annealed to 0. remask: a kept token is hidden again while its probability is below remask times the
    share of the way gone. order: see `most_confident`. settle: rounds in a row whose whole guess stays the same end a
    row; 0 never does."""

    mask: int
    schedule: Schedule = "cosine"
    temperature: float = 0.0
    order_temperature: float = 0.0
    remask: float = 0.0
    order: Order = "token"
    settle: int = 0


@dataclass(frozen=True)
class Filled:
    """evaluations: rounds until each row was finished."""

    tokens: Int[Tensor, "b s"]
    evaluations: Int[Tensor, " b"]


def unmask(
    read: Read, tokens: Int[Tensor, "b s"], how: Unmasking, *, more: Callable[[], int],
    moving: Bool[Tensor, " b"] | None = None, group: Int[Tensor, " s"] | None = None,
    generator: torch.Generator | None = None,
) -> Filled:  # fmt: skip
    """Fill the masked ones of `tokens`.

    more: asked after every round, how many more there may be; when 0, everything left is filled at once. A row that
    cannot change any more is finished: it stays as it is and is no longer counted. moving: rows to fill; all.
    """
    moving = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device) if moving is None else moving
    spent = torch.zeros_like(moving, dtype=torch.long)
    guess, calm, done, left = tokens, spent, 0.0, 1
    while left and moving.any():
        logits = read(tokens)
        spent = spent + moving
        left = max(0, more())
        done = done + (1 - done) / (1 + left)
        turn = _round(logits, tokens, how, done, group, generator)
        calm = torch.where((turn.guess == guess).all(-1), calm + 1, 0)
        guess = turn.guess
        settled = (calm >= how.settle) & (how.settle > 0)
        new = torch.where(settled[:, None], guess, turn.tokens)
        changing = (new == how.mask).any(-1) | ((new != tokens).any(-1) & (how.remask > 0) & ~settled)
        tokens, moving = torch.where(moving[:, None], new, tokens), moving & changing
    return Filled(tokens, spent)


@dataclass(frozen=True)
class _Round:
    tokens: Int[Tensor, "b s"]
    guess: Int[Tensor, "b s"]  # with nothing masked


def _round(
    logits: Float[Tensor, "b s k"], tokens: Int[Tensor, "b s"], how: Unmasking, done: float,
    group: Int[Tensor, " s"] | None, generator: torch.Generator | None,
) -> _Round:  # fmt: skip
    """What is kept once the share `done` of the way is gone; always at least one more token than before."""
    chances = logits.log_softmax(-1)
    candidates = choose(logits, how.temperature, generator)
    hidden = tokens == how.mask
    if how.remask:
        kept = chances.gather(-1, tokens.masked_fill(hidden, 0)[..., None])[..., 0]
        hidden = hidden | (kept < math.log(how.remask * done))
    guess = torch.where(hidden, candidates, tokens)
    confidence = chances.gather(-1, candidates[..., None])[..., 0]
    if how.order_temperature:
        noise = gumbel(tuple(confidence.shape), generator, confidence.device)
        confidence = confidence + how.order_temperature * (1 - done) * noise
    size = tokens.shape[1]
    target = size - math.floor(masked_share(how.schedule, done) * size + 1e-6)
    count = (target - (~hidden).sum(-1)).clamp(min=1)
    keep = most_confident(confidence, hidden, count, order=how.order, group=group)
    return _Round(torch.where(keep, candidates, tokens.masked_fill(hidden, how.mask)), guess)
