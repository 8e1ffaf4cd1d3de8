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
from volar.reasoning.visual_slots import Marking, Places, Standing

GRID = 16  # points a side of a heat map; places are read to a fraction of a cell


@dataclass(frozen=True, kw_only=True)
class HeadLearned:
    """loss: per sample, mean over slots. own: what the head would have said."""

    loss: Float[Tensor, " b"]
    own: Places


class Head(nn.Module, ABC):
    """Constructor: `(width, marking)`. Whether there is anything, and whether it is done, is read off the query's state
    by every head alike."""

    evaluations: int  # of the network for one prediction
    tokens: int  # generated for each slot

    def __init__(self, width: int, marking: Marking) -> None:
        super().__init__()
        self.marking = marking
        self.standing = nn.Linear(width, len(Standing))

    @abstractmethod
    def learn(self, context: Context, queries: Float[Tensor, "b s d"], truth: Places) -> HeadLearned: ...

    @abstractmethod
    def predict(self, context: Context, queries: Float[Tensor, "b s d"]) -> Places: ...

    def standing_loss(self, states: Float[Tensor, "b s d"], truth: Places) -> Float[Tensor, "b s"]:
        return F.cross_entropy(self.standing(states).transpose(1, 2), truth.standing, reduction="none")

    def places(self, states: Float[Tensor, "b s d"], numbers: Float[Tensor, "b s n"]) -> Places:
        """Those numbers as boxes, where the queries' states say that there is anything."""
        standing = self.standing(states).argmax(-1)
        box = F.pad(numbers, (0, 4 - numbers.shape[-1]))
        return Places(box=box * (standing != Standing.NOTHING)[..., None], standing=standing)


class HeatMapHead(Head):
    """A map over the picture for each slot, and beside it how large the box is."""

    evaluations, tokens = 1, 0

    def __init__(self, width: int, marking: Marking) -> None:
        super().__init__(width, marking)
        points, even = grid_points(GRID), 2 * (width // 4)
        self.keys = nn.Parameter(torch.cat([sinusoid(points[:, axis], even, low=0.25) for axis in (0, 1)], dim=-1))
        self.look = nn.Linear(width, 2 * even)
        self.size = nn.Linear(width, 2) if marking.numbers == 4 else None

    def learn(self, context: Context, queries: Float[Tensor, "b s d"], truth: Places) -> HeadLearned:
        states = self._states(context, queries)
        where = heat_loss(self._heat(states), truth.box[..., :2])
        if self.size is not None:
            where = where + (self.size(states).sigmoid() - truth.box[..., 2:]).abs().sum(-1)
        loss = self.standing_loss(states, truth) + where * truth.there
        return HeadLearned(loss=loss.mean(-1), own=self._read(states.detach()))

    def predict(self, context: Context, queries: Float[Tensor, "b s d"]) -> Places:
        return self._read(self._states(context, queries))

    def _states(self, context: Context, queries: Float[Tensor, "b s d"]) -> Float[Tensor, "b s d"]:
        return context.extend(queries, full_mask(queries.shape[1], queries.device)).hidden

    def _heat(self, states: Float[Tensor, "b s d"]) -> Float[Tensor, "b s k"]:
        return self.look(states) @ self.keys.T / self.keys.shape[-1] ** 0.5

    @torch.no_grad()
    def _read(self, states: Float[Tensor, "b s d"]) -> Places:
        centre = read_heat(self._heat(states))
        numbers = centre if self.size is None else torch.cat([centre, self.size(states).sigmoid()], dim=-1)
        return self.places(states, numbers)


class TokenHead(Head):
    """u, v and, of boxes, width and height as one token each, said one after the other, of all slots at once: a
    slot's v is chosen knowing the u of every slot."""

    def __init__(self, width: int, marking: Marking) -> None:
        super().__init__(width, marking)
        self.evaluations, self.tokens = marking.numbers, 1 + marking.numbers  # how it stands is read with the first
        self.embedding = nn.Parameter(0.02 * torch.randn(marking.numbers - 1, marking.bins, width))
        self.out = nn.ModuleList(nn.Linear(width, marking.bins) for _ in range(marking.numbers))

    def learn(self, context: Context, queries: Float[Tensor, "b s d"], truth: Places) -> HeadLearned:
        numbers, slots = self.marking.numbers, queries.shape[1]
        said = to_bins(truth.box[..., :numbers], self.marking.bins)
        heard = [self._heard(queries, said[..., turn], truth.there, turn) for turn in range(numbers - 1)]
        turns = torch.arange(numbers, device=queries.device).repeat_interleave(slots)
        hidden = context.extend(torch.cat([queries, *heard], dim=1), turns[:, None] >= turns).hidden
        states = hidden.split(slots, dim=1)
        loss = self.standing_loss(states[0], truth)
        for turn, out in enumerate(self.out):
            logits = out(states[turn]).transpose(1, 2)
            loss = loss + F.cross_entropy(logits, said[..., turn], reduction="none") * truth.there
        return HeadLearned(loss=loss.mean(-1), own=self.predict(context, queries))

    @torch.no_grad()
    def predict(self, context: Context, queries: Float[Tensor, "b s d"]) -> Places:
        sees, new, said, first = full_mask(queries.shape[1], queries.device), queries, [], None
        for turn, out in enumerate(self.out):
            longer = context.extend(new, sees)
            first = longer.hidden if first is None else first
            said.append(out(longer.hidden).argmax(-1))
            if turn + 1 < len(self.out):
                there = self.standing(first).argmax(-1) != Standing.NOTHING
                context, new = longer.context, self._heard(queries, said[-1], there, turn)
        assert first is not None
        return self.places(first, (torch.stack(said, dim=-1) + 0.5) / self.marking.bins)

    def _heard(
        self, queries: Float[Tensor, "b s d"], said: Int[Tensor, "b s"], there: Bool[Tensor, "b s"], turn: int
    ) -> Float[Tensor, "b s d"]:
        return queries + self.embedding[turn][said] * there[..., None]


def to_bins(numbers: Float[Tensor, "*b"], bins: int) -> Int[Tensor, "*b"]:
    """Which of the `bins` equal parts of 0..1 each number lies in; it is read back as the middle of it."""
    return (numbers * bins).long().clamp(0, bins - 1)


HEADS: dict[str, type[Head]] = {"heatmap": HeatMapHead, "tokens": TokenHead}
