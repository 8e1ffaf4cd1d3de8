"""How a backbone's context becomes marks: one learned query a slot continues it, and what comes out is read as tokens
(Action with Visual Primitives, arXiv 2605.22183) or as a heat map."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from volar.core.model import Context
from volar.nn.heatmap import grid_points, heat_loss, read_heat
from volar.nn.transformer import full_mask, sinusoid
from volar.reasoning.visual_slots import Marking, Places

GRID = 16  # points a side of a heat map; places are read to a fraction of a cell


@dataclass(frozen=True, kw_only=True)
class HeadLearned:
    """loss: per sample, mean over slots. own: what the head would have said."""

    loss: Float[Tensor, " b"]
    own: Places


class Head(nn.Module, ABC):
    """Constructor: `(width, marking)`."""

    evaluations: int  # of the network for one prediction
    tokens: int  # generated for each slot

    @abstractmethod
    def learn(self, context: Context, queries: Float[Tensor, "b s d"], truth: Places) -> HeadLearned: ...

    @abstractmethod
    def predict(self, context: Context, queries: Float[Tensor, "b s d"]) -> Places: ...


class HeatMapHead(Head):
    """A map over the picture for each slot, and beside it whether there is anything, and how large."""

    evaluations, tokens = 1, 0

    def __init__(self, width: int, marking: Marking) -> None:
        super().__init__()
        points = grid_points(GRID)
        even = 2 * (width // 4)
        self.sized = marking.numbers == 4
        self.keys = nn.Parameter(torch.cat([sinusoid(points[:, axis], even, low=0.25) for axis in (0, 1)], dim=-1))
        self.look = nn.Linear(width, self.keys.shape[-1])
        self.there = nn.Linear(width, 1)
        self.size = nn.Linear(width, 2)

    def forward(self, context: Context, queries: Float[Tensor, "b s d"]) -> tuple[Tensor, Tensor, Tensor]:
        hidden = context.extend(queries, full_mask(queries.shape[1], queries.device)).hidden
        heat = self.look(hidden) @ self.keys.T / self.keys.shape[-1] ** 0.5
        return heat, self.there(hidden)[..., 0], self.size(hidden).sigmoid()

    def learn(self, context: Context, queries: Float[Tensor, "b s d"], truth: Places) -> HeadLearned:
        heat, there, size = self(context, queries)
        where = heat_loss(heat, truth.box[..., :2])
        if self.sized:
            where = where + (size - truth.box[..., 2:]).abs().sum(-1)
        loss = F.binary_cross_entropy_with_logits(there, truth.there.float(), reduction="none") + where * truth.there
        return HeadLearned(loss=loss.mean(-1), own=self._read(heat.detach(), there, size.detach()))

    def predict(self, context: Context, queries: Float[Tensor, "b s d"]) -> Places:
        return self._read(*self(context, queries))

    def _read(self, heat: Tensor, there: Tensor, size: Tensor) -> Places:
        box = torch.cat([read_heat(heat), size if self.sized else torch.zeros_like(size)], dim=-1)
        return _places(box, there > 0)


class TokenHead(Head):
    """u, v and, of boxes, width and height as one token each, said one after the other, of all slots at once: a
    slot's v is chosen knowing the u of every slot. The first token may say that there is nothing."""

    def __init__(self, width: int, marking: Marking) -> None:
        super().__init__()
        self.bins, self.evaluations, self.tokens = marking.bins, marking.numbers, marking.numbers
        self.embedding = nn.Parameter(0.02 * torch.randn(self.tokens - 1, marking.bins + 1, width))
        self.out = nn.ModuleList(nn.Linear(width, marking.bins + (turn == 0)) for turn in range(self.tokens))

    def learn(self, context: Context, queries: Float[Tensor, "b s d"], truth: Places) -> HeadLearned:
        said = to_bins(truth, self.bins)[..., : self.tokens]
        slots, device = queries.shape[1], queries.device
        turns = [queries, *(self._heard(queries, said[..., turn], turn) for turn in range(self.tokens - 1))]
        turn = torch.arange(self.tokens, device=device).repeat_interleave(slots)
        hidden = context.extend(torch.cat(turns, dim=1), turn[:, None] >= turn).hidden
        losses = []
        for turn, states in enumerate(hidden.split(slots, dim=1)):
            logits = self.out[turn](states).transpose(1, 2)
            if turn:  # nothing has no place
                losses.append(F.cross_entropy(logits, said[..., turn] % self.bins, reduction="none") * truth.there)
            else:
                losses.append(F.cross_entropy(logits, said[..., turn], reduction="none"))
        with torch.no_grad():
            own = self.predict(context, queries)
        return HeadLearned(loss=torch.stack(losses).sum(0).mean(-1), own=own)

    def predict(self, context: Context, queries: Float[Tensor, "b s d"]) -> Places:
        sees, new, said = full_mask(queries.shape[1], queries.device), queries, []
        for turn in range(self.tokens):
            longer = context.extend(new, sees)
            said.append(self.out[turn](longer.hidden).argmax(-1))
            if turn < self.tokens - 1:
                context, new = longer.context, self._heard(queries, said[-1], turn)
        there = said[0] < self.bins
        return _places(from_bins(torch.stack(said, dim=-1), self.bins), there)

    def _heard(self, queries: Tensor, said: Int[Tensor, "b s"], turn: int) -> Float[Tensor, "b s d"]:
        return queries + self.embedding[turn][said]


def to_bins(places: Places, bins: int) -> Int[Tensor, "b s 4"]:
    """Each number's bin; `bins` itself where there is nothing."""
    ids = (places.box * bins).long().clamp(0, bins - 1)
    return ids.masked_fill(~places.there[..., None], bins)


def from_bins(said: Int[Tensor, "b s k"], bins: int) -> Float[Tensor, "b s 4"]:
    """The middle of each bin; zeros for numbers that were not said."""
    middle = (said + 0.5) / bins
    return F.pad(middle, (0, 4 - said.shape[-1]))


def _places(box: Float[Tensor, "b s 4"], there: Bool[Tensor, "b s"]) -> Places:
    return Places(box=box * there[..., None], there=there, done=torch.zeros_like(there))


HEADS: dict[str, type[Head]] = {"heatmap": HeatMapHead, "tokens": TokenHead}
