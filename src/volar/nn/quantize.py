"""Vectors <-> codes: residual codebooks learned by moving averages, and finite scalar quantisation."""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

DEAD = 0.05  # a code that takes less than this share of an even load is moved onto a vector of the batch


@dataclass(frozen=True)
class Quantised:
    """values: what the ids stand for, as near as the codes come to the input. ids: one per book and vector."""

    values: Float[Tensor, "n d"]
    ids: Int[Tensor, "n books"]


class Codebooks(nn.Module):
    """Residual vector quantisation (SoundStream, arXiv 2107.03312): each book codes what the ones before it left.

    The codes are no parameters: `learn` moves them to the running mean of the vectors they stand for (arXiv
    1711.00937), and those that stand for hardly any are started anew, so that books do not die.
    """

    codes: Tensor  # [books k d]
    load: Tensor  # [books k] running number of vectors per code
    total: Tensor  # [books k d] running sum of these vectors

    def __init__(self, *, books: int, codes: int, width: int, decay: float = 0.98) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("codes", torch.zeros(books, codes, width))
        self.register_buffer("load", torch.zeros(books, codes))
        self.register_buffer("total", torch.zeros(books, codes, width))

    def quantise(self, vectors: Float[Tensor, "n d"]) -> Quantised:
        """The nearest code in each book in turn. No gradient."""
        rest, ids = vectors.detach(), []
        for codes in self.codes:
            nearest = _nearest(rest, codes)
            rest = rest - codes[nearest]
            ids.append(nearest)
        return Quantised(values=vectors.detach() - rest, ids=torch.stack(ids, dim=-1))

    def values(self, ids: Int[Tensor, "n books"], known: Bool[Tensor, "n books"]) -> Float[Tensor, "n d"]:
        """Sum of the named codes; unknown ones add nothing."""
        parts = [codes[ids[:, book]] * known[:, book, None] for book, codes in enumerate(self.codes)]
        return torch.stack(parts).sum(dim=0)

    @torch.no_grad()
    def learn(self, vectors: Float[Tensor, "n d"], generator: torch.Generator) -> None:
        """One step of the moving averages on a batch; the first batch starts the codes."""
        rest = vectors.detach()
        first = not self.load.any()
        for codes, load, total in zip(self.codes, self.load, self.total, strict=True):
            if first:
                _restart(codes, load, total, torch.ones_like(load, dtype=torch.bool), rest, generator)
            nearest = _nearest(rest, codes)
            count = torch.bincount(nearest, minlength=len(codes)).to(load.dtype)
            load.lerp_(count, 1 - self.decay)
            total.lerp_(torch.zeros_like(total).index_add_(0, nearest, rest), 1 - self.decay)
            alive = load > DEAD * len(rest) / len(codes)
            codes[alive] = total[alive] / load[alive, None]
            _restart(codes, load, total, ~alive, rest, generator)
            rest = rest - codes[_nearest(rest, codes)]


def _nearest(vectors: Float[Tensor, "n d"], codes: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    return torch.addmm(codes.square().sum(dim=1), vectors, codes.T, alpha=-2.0).argmin(dim=1)


def _restart(
    codes: Tensor, load: Tensor, total: Tensor, which: Bool[Tensor, " k"], vectors: Tensor, generator: torch.Generator
) -> None:
    """Put the codes `which` onto random vectors of the batch, with an even share of its load."""
    chosen = torch.randint(len(vectors), (int(which.sum()),), generator=generator)
    share = len(vectors) / len(codes)
    codes[which] = vectors[chosen]
    load[which] = share
    total[which] = vectors[chosen] * share


@dataclass(frozen=True)
class Rounded:
    """values: in -1..1, with a straight-through gradient. ids: mixed radix of the rounded numbers."""

    values: Float[Tensor, "*n l"]
    ids: Int[Tensor, "*n"]


class FiniteScalar(nn.Module):
    """Finite scalar quantisation (arXiv 2309.15505): squash each number, round it to one of its levels. No codebook,
    so none that could collapse."""

    half_range: Tensor  # [l] of the squashed range
    offset: Tensor  # [l] half a level where their number is even
    shift: Tensor  # [l] makes 0 fall onto the middle level
    level: Tensor  # [l]
    radix: Tensor  # [l]

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        half = [(level - 1) * 1.001 / 2 for level in levels]
        offset = [0.5 if level % 2 == 0 else 0.0 for level in levels]
        shift = [math.atanh(o / h) for o, h in zip(offset, half, strict=True)]
        for name, value in {"half_range": half, "offset": offset, "shift": shift, "level": levels}.items():
            self.register_buffer(name, torch.tensor(value), persistent=False)
        self.register_buffer("radix", torch.tensor([1, *levels[:-1]]).cumprod(dim=0), persistent=False)

    def forward(self, numbers: Float[Tensor, "*n l"]) -> Rounded:
        squashed = torch.tanh(numbers + self.shift) * self.half_range - self.offset
        rounded = squashed + (squashed.round() - squashed).detach()
        reach = self.level // 2
        digits = rounded.detach().round().long() + reach
        return Rounded(values=rounded / reach, ids=(digits * self.radix).sum(dim=-1))

    def values(self, ids: Int[Tensor, "*n"]) -> Float[Tensor, "*n l"]:
        """What the ids stand for."""
        digits = rearrange(ids, "... -> ... 1") // self.radix % self.level
        reach = self.level // 2
        return (digits - reach) / reach
