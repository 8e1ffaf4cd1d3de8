"""Embodied chain-of-thought: named segments of text are said before the action and become part of its context.

Settings of the one class give ECoT (arXiv 2407.08693), ECoT-Lite's variants (2505.08243), Hybrid Training (OpenReview
IBJtOltTbx) and Fast ECoT (2506.07639); `ecot_variants` names them. Not the labeller: labels come with the data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from volar.core.errors import ConfigError, unknown_name
from volar.core.model import Batch, Context
from volar.core.reasoner import Considered, Encode, Learned, Reasoner
from volar.core.robot import Camera
from volar.core.thoughts import Recall, Thought
from volar.nn.speech import IGNORED
from volar.nn.transformer import causal_mask, full_mask
from volar.reasoning.intentions import Intention, intend
from volar.reasoning.lexicon import Lexicon
from volar.reasoning.segments import Mode, read_segments, read_shares
from volar.reasoning.speaker import Speaker, Texts


@dataclass(frozen=True, kw_only=True)
class _Told:
    """context: with what is seen at its end. words: by segment, of every row. tokens: generated, per row. evaluations:
    of the network, per row."""

    context: Context
    words: list[Texts]
    tokens: list[int]
    evaluations: Int[Tensor, " b"]


@dataclass(frozen=True, kw_only=True)
class _Read:
    """places: tokens of text so far. loss: summed over the words that have one, count: how many they are; per row."""

    context: Context
    places: Int[Tensor, " b"]
    loss: Float[Tensor, " b"]
    count: Int[Tensor, " b"]


class ECoT(Reasoner):
    """The decoder works on: the backbone's context, a mode's token where `prefix` asks for one, the seen segments, the
    pauses. Unseen segments are said on a branch that nobody else reads."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """segments: see `read_segments`. learn: the modes of training samples and their shares, see `read_shares`;
        think: the words are predicted, and read by the decoder, follow: they are read only, act: there are none.
        mode: at run time, as long as nothing is given. prefix: the mode is told by a token. pauses: contentless tokens
        after the words (thinking tokens). lead: in mode follow the words also take the instruction's place; without it
        an edit may change nothing, since the instruction has said it already. parallel: all segments that are due are
        said at once, each upon the others' last text. vocabulary: pieces of words at most. weight: of the words' loss
        beside the decoder's."""

        segments: str = "subtask; move"
        learn: str = "think"
        mode: Literal["think", "act"] = "think"
        prefix: bool = False
        pauses: int = 0
        lead: bool = False
        parallel: bool = False
        vocabulary: int = 512
        weight: float = 1.0

        def __post_init__(self) -> None:
            if not read_segments(self.segments) and set(read_shares(self.learn)) != {Mode.ACT}:
                raise ConfigError(f"learn={self.learn!r} needs segments; without any, it can only be 'act'.")
            if self.mode not in (Mode.THINK, Mode.ACT):
                raise unknown_name("mode at run time", self.mode, ("think", "act"))
            if self.mode == Mode.THINK and Mode.THINK not in read_shares(self.learn):
                raise ConfigError(f"learn={self.learn!r} never learns to say the words; with it, mode must be 'act'.")
            if self.pauses < 0 or self.weight < 0:
                raise ConfigError(f"pauses and weight must not be negative, got {self.pauses} and {self.weight}.")
            if self.lead and Mode.FOLLOW not in read_shares(self.learn):
                raise ConfigError(f"lead is about the mode follow, which learn={self.learn!r} does not have.")

    speaker: Speaker

    def __init__(self, config: Config, *, width: int, cameras: tuple[Camera, ...]) -> None:
        super().__init__()
        self.config, self.width = config, width
        self.segments, self.shares = read_segments(config.segments), read_shares(config.learn)
        seen = [index for index, segment in enumerate(self.segments) if segment.seen]
        self.branches = [seen, list(range(len(seen), len(self.segments)))]
        self.pauses = nn.Parameter(0.02 * torch.randn(config.pauses, width))
        self.modes = nn.Parameter(0.02 * torch.randn(len(Mode) if config.prefix else 0, width))
        self._lexicon: Lexicon | None = None
        self._longest: list[int] = []  # of each segment, in pieces, among the labels

    def fit(self, thoughts: Sequence[Thought]) -> None:
        names = [segment.name for segment in self.segments]
        texts = {name: [thought.words[name] for thought in thoughts if name in thought.words] for name in names}
        for name in names:
            if not texts[name]:
                known = sorted({each for thought in thoughts for each in thought.words})
                raise ConfigError(
                    f"No label has the segment {name!r}; the data have: {', '.join(known) or 'none'}. Leave it out of "
                    f"`segments`, or label the data anew: `volar data label`."
                )
        lexicon = Lexicon.learn((text for name in names for text in texts[name]), self.config.vocabulary)
        self._build(lexicon, [max(len(lexicon.ids(text)) for text in set(texts[name])) for name in names])

    def state(self) -> dict[str, Any]:
        return {"pieces": self.lexicon.state(), "longest": self._longest}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._build(Lexicon.restore(state["pieces"]), list(state["longest"]))

    def _build(self, lexicon: Lexicon, longest: list[int]) -> None:
        self._lexicon, self._longest = lexicon, longest
        speaker = Speaker(width=self.width, pieces=lexicon.size, segments=len(self.segments))
        self.speaker = speaker.to(self.pauses.device)

    @property
    def lexicon(self) -> Lexicon:
        if self._lexicon is None:
            raise ConfigError("ECoT knows no labels yet: call fit(thoughts) or restore(state) first.")
        return self._lexicon

    def learn(self, batch: Batch, encode: Encode, *, generator: torch.Generator | None = None) -> Learned:
        """ConfigError without one label per sample."""
        rows = len(batch.instructions)
        if len(batch.thoughts) != rows:
            raise ConfigError(f"ECoT learns from one label per sample; got {len(batch.thoughts)} for {rows}.")
        modes = self._draw_modes(rows, generator)
        texts = self._labels(batch.thoughts, modes, generator)
        context = self._encoded(batch, encode, modes, texts)
        places = torch.zeros(rows, dtype=torch.long, device=context.tokens.device)
        predicted = torch.tensor([mode is Mode.THINK for mode in modes], device=places.device)
        seen, unseen = self.branches
        read = self._read(context, seen, texts, places, predicted)
        aside = self._read(read.context, unseen, texts, read.places, predicted)
        loss = (read.loss + aside.loss) / (read.count + aside.count).clamp(min=1)
        return Learned(context=self._paused(read.context), loss=self.config.weight * loss)

    def _read(
        self, context: Context, segments: Sequence[int], texts: Sequence[Texts], places: Int[Tensor, " b"],
        predicted: Bool[Tensor, " b"],
    ) -> _Read:  # fmt: skip
        """The labels of `segments` behind the context. predicted: rows whose words have a loss."""
        laid = self.speaker.lay(segments, [texts[index] for index in segments]) if segments else None
        if laid is None or not len(laid.segment):
            return _Read(context=context, places=places, loss=torch.zeros_like(places).float(), count=places * 0)
        read = self.speaker.read(context, laid, places)
        learned = torch.tensor([segment.learned for segment in self.segments], device=places.device)
        labels = laid.labels.masked_fill(~(predicted[:, None] & learned[laid.segment]), IGNORED)
        each = F.cross_entropy(read.logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
        count = (labels != IGNORED).sum(-1)
        return _Read(context=read.context, places=read.places, loss=each.sum(-1), count=count)

    def think(
        self, batch: Batch, encode: Encode, *, recalls: Sequence[Recall | None], given: Sequence[Thought | None],
        generator: torch.Generator | None = None,
    ) -> Considered:  # fmt: skip
        """Greedy, so the generator is not used. Raises ConfigError where nothing of what is given can be followed."""
        rows = [
            intend(
                self.segments, mode=Mode(self.config.mode), trained=self.shares, lexicon=self.lexicon,
                recall=recall, given=said,
            )
            for recall, said in zip(recalls, given, strict=True)
        ]  # fmt: skip
        given_texts = [[row.parts[index].script for row in rows] for index in range(len(self.segments))]
        context = self._encoded(batch, encode, [row.mode for row in rows], given_texts)
        told = self._tell(context, rows)
        thoughts = tuple(self._thought(row, told, index) for index, row in enumerate(rows))
        return Considered(context=self._paused(told.context), thoughts=thoughts, evaluations=told.evaluations)

    def _tell(self, context: Context, rows: Sequence[Intention]) -> _Told:
        """Everything that is given, kept or said."""
        parts = [[row.parts[index] for row in rows] for index in range(len(self.segments))]
        scripts: list[Texts] = [[part.script for part in each] for each in parts]
        speaking = left = [[part.speaks for part in each] for each in parts]
        places = torch.zeros(len(rows), dtype=torch.long, device=context.tokens.device)
        spent = places + bool(len(self.modes)) + bool(len(self.pauses))
        if self.config.parallel:
            old = [[part.last if part.speaks else part.script for part in each] for each in parts]
            due = [[part.speaks and part.last is not None for part in each] for each in parts]
            guessed = self.speaker.guess(context, old, due, places, longest=self._longest)
            spent = spent + guessed.evaluations
            scripts = [_filled(script, words) for script, words in zip(scripts, guessed.words, strict=True)]
            left = [[part.speaks and part.last is None for part in each] for each in parts]
        seen, unseen = self.branches
        told = self.speaker.tell(context, seen, scripts, left, places, longest=self._longest)
        aside = self.speaker.tell(told.context, unseen, scripts, left, told.places, longest=self._longest)
        words = [*told.words, *aside.words]
        return _Told(
            context=told.context, words=words, tokens=_generated(words, speaking, len(rows)),
            evaluations=spent + told.evaluations + aside.evaluations,
        )  # fmt: skip

    def _thought(self, row: Intention, told: _Told, index: int) -> Thought:
        words, ages = {}, {}
        for segment, part, texts in zip(self.segments, row.parts, told.words, strict=True):
            if (ids := texts[index]) is not None:
                words[segment.name], ages[segment.name] = self.lexicon.text(ids), part.age
        return Thought(words=words, ages=ages, tokens=told.tokens[index])

    def _labels(
        self, thoughts: Sequence[Thought], modes: Sequence[Mode], generator: torch.Generator | None
    ) -> list[Texts]:
        """What is left of each label, by segment."""
        device = self.pauses.device
        draws = torch.rand(len(self.segments), len(thoughts), generator=generator, device=device).tolist()
        return [
            [
                self.lexicon.ids(thought.words[segment.name])
                if mode is not Mode.ACT and draw >= segment.dropout and segment.name in thought.words
                else None
                for thought, mode, draw in zip(thoughts, modes, row, strict=True)
            ]
            for segment, row in zip(self.segments, draws, strict=True)
        ]

    def _draw_modes(self, rows: int, generator: torch.Generator | None) -> list[Mode]:
        shares = torch.tensor(list(self.shares.values()), device=self.pauses.device)
        drawn = torch.multinomial(shares, rows, replacement=True, generator=generator)
        return [list(self.shares)[index] for index in drawn.tolist()]

    def _encoded(self, batch: Batch, encode: Encode, modes: Sequence[Mode], texts: Sequence[Texts]) -> Context:
        """The backbone's context, and the mode's token where it is told. texts: by segment."""
        if self.config.lead:
            seen = zip(*(texts[index] for index in self.branches[0]), strict=True)
            words = [" ".join(self.lexicon.text(ids) for ids in row if ids is not None) for row in seen]
            choices = zip(batch.instructions, modes, words, strict=True)
            told = tuple(text if mode is Mode.FOLLOW else instruction for instruction, mode, text in choices)
            batch = replace(batch, instructions=told)
        context = encode(batch)
        if not len(self.modes):
            return context
        chosen = torch.tensor([list(Mode).index(mode) for mode in modes], device=self.modes.device)
        return context.extend(self.modes[chosen][:, None], full_mask(1, chosen.device)).context

    def _paused(self, context: Context) -> Context:
        if not len(self.pauses):
            return context
        pauses = self.pauses.expand(len(context.tokens), -1, -1)
        return context.extend(pauses, causal_mask(len(self.pauses), self.pauses.device)).context


def _filled(scripts: Texts, words: Texts) -> Texts:
    return [script if script is not None else guess for script, guess in zip(scripts, words, strict=True)]


def _generated(words: Sequence[Texts], speaking: Sequence[Sequence[bool]], count: int) -> list[int]:
    """Tokens that each row has said: its words, and the end of every segment."""
    rows = [0] * count
    for texts, spoken in zip(words, speaking, strict=True):
        for row, (ids, speaks) in enumerate(zip(texts, spoken, strict=True)):
            rows[row] += (len(ids or ()) + 1) * speaks
    return rows
