"""The network that reads and says named segments of text: ids in at their places, the backbone's own layers continue
the context by them, logits out. When to think what is not its business; that is `ecot`."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from volar.core.model import Context
from volar.nn.speech import IGNORED, POSITIONS
from volar.nn.transformer import causal_mask, sinusoid

Texts = Sequence[list[int] | None]
"""One segment of every row: ids, or None where the row has none."""


@dataclass(frozen=True, kw_only=True)
class Laid:
    """Segments side by side, each as wide as its longest row needs. labels: what follows each token. segment: of each
    column."""

    ids: Int[Tensor, "b s"]
    real: Bool[Tensor, "b s"]
    labels: Int[Tensor, "b s"]
    segment: Int[Tensor, " s"]


@dataclass(frozen=True, kw_only=True)
class Read:
    """context: with the tokens at its end. logits: of what follows each token. places: tokens read so far, per row."""

    context: Context
    logits: Float[Tensor, "b s k"]
    places: Int[Tensor, " b"]


@dataclass(frozen=True, kw_only=True)
class Told:
    """words: segment by segment, of every row, from its script or its own. evaluations: of the network, per row."""

    context: Context
    words: list[Texts]
    places: Int[Tensor, " b"]
    evaluations: Int[Tensor, " b"]


@dataclass(frozen=True, kw_only=True)
class Guessed:
    """words: segment by segment, of every row to which it was due. evaluations: of the network, per row."""

    words: list[Texts]
    evaluations: Int[Tensor, " b"]


class Speaker(nn.Module):
    """Final. A segment is read as its tag and its words. Each of them predicts the next word, the last one an end,
    which is never read: the next tag follows instead."""

    def __init__(self, *, width: int, pieces: int, segments: int) -> None:
        super().__init__()
        self.width, self.end, self.segments = width, pieces, segments
        self.embedding = nn.Embedding(pieces + 1 + segments, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.out = nn.Linear(width, pieces + 1)

    def lay(self, segments: Sequence[int], texts: Sequence[Texts]) -> Laid:
        """texts: of each of `segments`, one per row."""
        blocks = []
        for segment, rows in zip(segments, texts, strict=True):
            wide = max((len(words) + 1 for words in rows if words is not None), default=0)
            ids, labels = [], []
            for words in rows:
                spare = wide if words is None else wide - 1 - len(words)
                ids.append([*([] if words is None else [self._tag(segment), *words]), *[0] * spare])
                labels.append([*([] if words is None else [*words, self.end]), *[IGNORED] * spare])
            blocks.append((torch.tensor(ids), torch.tensor(labels), torch.full((wide,), segment)))
        parts = (torch.cat(each, dim=-1).long() for each in zip(*blocks, strict=True))
        ids, labels, segment = (part.to(self.out.weight.device) for part in parts)
        return Laid(ids=ids, real=labels != IGNORED, labels=labels, segment=segment)

    def read(self, context: Context, laid: Laid, places: Int[Tensor, " b"]) -> Read:
        """One evaluation: every token sees the context and what stands before it. places: tokens read before."""
        at = places[:, None] + laid.real.cumsum(-1) - 1
        sees = causal_mask(laid.ids.shape[1], laid.ids.device) & laid.real[:, None]
        return self._read(context, laid.ids, at, sees)

    def _read(
        self, context: Context, ids: Int[Tensor, "b s"], at: Int[Tensor, "b s"], sees: Bool[Tensor, "b s s"]
    ) -> Read:
        tokens = self.embedding(ids) + sinusoid(at.clamp(min=0) / POSITIONS, self.width)
        longer = context.extend(tokens, sees)
        return Read(context=longer.context, logits=self.out(longer.hidden), places=at[:, -1] + 1)

    def tell(
        self, context: Context, segments: Sequence[int], scripts: Sequence[Texts], speaking: Sequence[Sequence[bool]],
        places: Int[Tensor, " b"], *, longest: Sequence[int],
    ) -> Told:  # fmt: skip
        """`segments` in their order. scripts, speaking, longest: of every segment there is. A row with a script reads
        it; one without says it where it is speaking, and else goes without. Neighbours that nobody says are read at
        once. longest: pieces that are said at most."""
        words, evaluations = [], torch.zeros_like(places)
        for spoken, group in groupby(segments, key=lambda segment: any(speaking[segment])):
            together = list(group)
            for part in [[segment] for segment in together] if spoken else [together]:
                if spoken:
                    told = self._say(context, part[0], scripts, speaking, places, longest=longest[part[0]])
                else:
                    told = self._recite(context, part, scripts, places)
                context, places, evaluations = told.context, told.places, evaluations + told.evaluations
                words += told.words
        return Told(context=context, words=words, places=places, evaluations=evaluations)

    def _recite(
        self, context: Context, segments: Sequence[int], scripts: Sequence[Texts], places: Int[Tensor, " b"]
    ) -> Told:
        words = [scripts[segment] for segment in segments]
        laid = self.lay(segments, words)
        if not len(laid.segment):
            return Told(context=context, words=words, places=places, evaluations=torch.zeros_like(places))
        read = self.read(context, laid, places)
        return Told(context=read.context, words=words, places=read.places, evaluations=laid.real.any(-1).long())

    def _say(
        self, context: Context, segment: int, scripts: Sequence[Texts], speaking: Sequence[Sequence[bool]],
        places: Int[Tensor, " b"], *, longest: int,
    ) -> Told:  # fmt: skip
        """Greedily, all rows together, until each has ended."""
        pairs = zip(scripts[segment], speaking[segment], strict=True)
        words = [list(script or ()) if speaks or script is not None else None for script, speaks in pairs]
        still, evaluations, count = list(speaking[segment]), torch.zeros_like(places), 0
        column = [None if row is None else self._tag(segment) for row in words]
        while any(token is not None for token in column):
            read = self.read(context, self._column(segment, column), places)
            context, places, count = read.context, read.places, count + 1
            evaluations = evaluations + torch.tensor([token is not None for token in column], device=places.device)
            for row, best in enumerate(read.logits[:, 0].argmax(-1).tolist()):
                still[row] = self._hear(words[row], best, longest) if still[row] else False
            column = [row[count - 1] if row is not None and len(row) >= count else None for row in words]
        return Told(context=context, words=[words], places=places, evaluations=evaluations)

    def _hear(self, words: list[int] | None, token: int, longest: int) -> bool:
        """Add a token that was said; False where it was the end, or there is no room for more."""
        assert words is not None
        goes_on = token != self.end and len(words) < longest
        words += [token] * goes_on
        return goes_on

    def guess(
        self, context: Context, old: Sequence[Texts], due: Sequence[Sequence[bool]], places: Int[Tensor, " b"],
        *, longest: Sequence[int],
    ) -> Guessed:  # fmt: skip
        """All due segments at once, each seeing what was `old` before it in place of what is new (Fast ECoT, arXiv
        2506.07639). One evaluation per word of the longest; each reads all segments again."""
        everything, before = range(self.segments), self.lay(range(self.segments), old)
        words: list[list[list[int] | None]] = [[[] if each else None for each in rows] for rows in due]
        still, evaluations = [list(rows) for rows in due], torch.zeros_like(places)
        while any(map(any, still)):
            new = self.lay(everything, words)
            logits = self._beside(context, before, new, places)[:, before.ids.shape[1] :]
            busy = [any(each) for each in zip(*still, strict=True)]
            evaluations = evaluations + torch.tensor(busy, device=places.device)
            row, last = (new.labels == self.end).nonzero(as_tuple=True)
            best = logits[row, last].argmax(-1)
            for at, segment, token in zip(row.tolist(), new.segment[last].tolist(), best.tolist(), strict=True):
                if still[segment][at]:
                    still[segment][at] = self._hear(words[segment][at], token, longest[segment])
        return Guessed(words=[*words], evaluations=evaluations)

    def _beside(self, context: Context, old: Laid, new: Laid, places: Int[Tensor, " b"]) -> Float[Tensor, "b s k"]:
        """Logits when each new segment follows the old ones before it."""
        segment, real = torch.cat([old.segment, new.segment]), torch.cat([old.real, new.real], dim=1)
        fresh = torch.arange(len(segment), device=segment.device) >= len(old.segment)
        same, earlier = segment == segment[:, None], segment < segment[:, None]
        among = torch.where(fresh[:, None], torch.where(fresh, same, earlier), ~fresh)
        sees = causal_mask(len(segment), segment.device) & among & real[:, None]
        at = places[:, None] + sees.sum(-1) - 1
        return self._read(context, torch.cat([old.ids, new.ids], dim=1), at, sees).logits

    def _tag(self, segment: int) -> int:
        return self.end + 1 + segment

    def _column(self, segment: int, tokens: Sequence[int | None]) -> Laid:
        """One token per row."""
        device = self.out.weight.device
        ids = torch.tensor([[token or 0] for token in tokens], device=device)
        real = torch.tensor([[token is not None] for token in tokens], device=device)
        return Laid(ids=ids, real=real, labels=ids, segment=torch.tensor([segment], device=device))
