"""Visual primitives: the policy marks where it will act, on the picture, and its decoder works on what it marked
(Action with Visual Primitives, arXiv 2605.22183). With `inject="none"` marks are learned but not handed on: the control
that tells the channel from the representation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from volar.core.errors import ConfigError, unknown_name
from volar.core.model import Batch, Context
from volar.core.reasoner import Considered, Encode, Learned, Reasoner
from volar.core.robot import Camera
from volar.core.thoughts import Mark, Recall, Thought
from volar.reasoning.visual_channels import CHANNELS, Channel
from volar.reasoning.visual_heads import HEADS, Head
from volar.reasoning.visual_slots import (
    FORMS,
    Marking,
    Places,
    Slot,
    assign,
    describe,
    find_slots,
    to_marks,
    to_places,
)

AGE = "marks"  # key of `Thought.ages`


class Visual(Reasoner):
    """Final. Marks stay until the gripper's next event or for `patience` looks, then they are thought anew."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """form: what is marked. "point": where the hand is at the next event; "box": the same with a size; "regions":
        boxes of the source and the destination; "markers": points of all events in their order, those done remembered;
        "objects": the place of every object that the labels name. head: how marks are predicted, `bins` tokens a number
        or a heat map. inject: how the decoder learns of them. hears: whether the decoder is told the instruction
        beside the marks, or the marks alone. weight: of the marks' loss. camera: None marks the pictures of all
        that the labels are on.

        own, jittered: shares of the training samples whose decoder works on the head's own marks, and on true marks
        moved by a normal deviate of `jitter` (fractions of the picture; one pixel of 100 is 0.01); the others are true.
        patience: looks that a mark lasts at most; 1 thinks at every look. crop: share of the picture's sides."""

        form: str = "point"
        head: str = "heatmap"
        inject: str = "coordinates"
        hears: bool = True
        weight: float = 0.1
        camera: str | None = None
        own: float = 0.5
        jittered: float = 0.25
        jitter: float = 0.02
        patience: int = 10
        bins: int = 64
        crop: float = 0.3

        def __post_init__(self) -> None:
            for kind, name, known in (("form of visual primitives", self.form, FORMS), ("head", self.head, HEADS),
                                      ("way to inject marks", self.inject, (*CHANNELS, "none"))):  # fmt: skip
                if name not in known:
                    raise unknown_name(kind, name, known)
            if min(self.own, self.jittered) < 0 or self.own + self.jittered > 1:
                raise ConfigError(
                    f"own and jittered are shares of the training samples, together at most 1; got {self.own} and "
                    f"{self.jittered}."
                )
            if not self.hears and self.inject == "none":
                raise ConfigError("With inject='none' and hears=False nothing would tell the decoder what to do.")
            if self.weight < 0 or not 0 <= self.jitter < 1 or not 0 < self.crop <= 1:
                raise ConfigError(
                    f"weight must not be negative, jitter in [0, 1) and crop in (0, 1]; got {self.weight}, "
                    f"{self.jitter} and {self.crop}."
                )
            if self.patience < 1 or self.bins < 2:
                raise ConfigError(f"patience is at least 1 look and bins 2; got {self.patience} and {self.bins}.")

    marking: Marking
    head: Head
    channel: Channel | None
    queries: nn.Parameter

    def __init__(self, config: Config, *, width: int, cameras: tuple[Camera, ...]) -> None:
        super().__init__()
        self.config, self.width, self.cameras = config, width, tuple(camera.name for camera in cameras)
        if cameras and config.camera not in (None, *self.cameras):
            raise unknown_name("camera of the robot", str(config.camera), self.cameras)
        if self.uses_images and not cameras:
            raise ConfigError(
                f"inject={config.inject!r} needs pictures, and the robot has no camera. With the marks of a virtual "
                f"camera take 'coordinates' or 'tokens'."
            )

    @property
    def uses_images(self) -> bool:
        channel = CHANNELS.get(self.config.inject)
        return channel is not None and channel.uses_images

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The marks that it thinks of."""
        return self.marking.slots

    def fit(self, thoughts: Sequence[Thought]) -> None:
        self._build(find_slots(thoughts, self.config.form, self.config.camera))

    def state(self) -> dict[str, Any]:
        return {"slots": [asdict(slot) for slot in self.slots]}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._build(tuple(Slot(**slot) for slot in state["slots"]))

    def _build(self, slots: tuple[Slot, ...]) -> None:
        for slot in slots:
            if self.cameras and slot.camera not in self.cameras:
                raise unknown_name("camera of the robot, which the labels mark,", slot.camera, self.cameras)
        config = self.config
        numbers = 4 if FORMS[config.form].sized else 2
        self.marking = Marking(slots=slots, numbers=numbers, bins=config.bins, crop=config.crop)
        self.queries = nn.Parameter(0.02 * torch.randn(len(slots), self.width))
        self.head = HEADS[config.head](self.width, self.marking)
        channel = CHANNELS.get(config.inject)
        self.channel = None if channel is None else channel(self.width, self.marking)

    def learn(self, batch: Batch, encode: Encode, *, generator: torch.Generator | None = None) -> Learned:
        if len(batch.thoughts) != len(batch.instructions):
            raise ConfigError(
                f"A batch of {len(batch.instructions)} brings {len(batch.thoughts)} labels to learn marks from. "
                f"`volar data label` makes them."
            )
        rows = [assign(thought.marks, self.slots, self.config.form) for thought in batch.thoughts]
        truth = to_places(rows, self.marking, self.queries.device)
        context = encode(batch)
        learned = self.head.learn(context, self.queries.expand(len(rows), -1, -1), truth)
        if self.channel is not None:
            context = self._handed(batch, context, encode, self._shown(truth, learned.own, generator))
        return Learned(context=context, loss=self.config.weight * learned.loss)

    def _handed(self, batch: Batch, context: Context | None, encode: Encode, places: Places) -> Context:
        """The decoder's context: with the marks and, where it hears, the words."""
        assert self.channel is not None
        if not self.config.hears:
            batch = replace(batch, instructions=("",) * len(batch.instructions))
            context = encode(batch) if self.channel.needs_context else None
        return self.channel(batch, context, encode, places)

    def _shown(self, truth: Places, own: Places, generator: torch.Generator | None) -> Places:
        """What the decoder learns on: a mixture, since it will not have a perfect pointer when it acts."""
        config, rows, device = self.config, len(truth.box), truth.box.device
        drawn = torch.rand(rows, 1, generator=generator, device=device)
        moved = config.jitter * torch.randn(truth.box[..., :2].shape, generator=generator, device=device)
        moved = moved * ((drawn >= config.own) & (drawn < config.own + config.jittered))[..., None]
        centre = (truth.box[..., :2] + moved).clamp(0, 1)
        itself = drawn < config.own
        near = torch.cat([centre, truth.box[..., 2:]], dim=-1)
        return Places(
            box=torch.where(itself[..., None], own.box, near),
            standing=torch.where(itself, own.standing, truth.standing),
        )

    def think(
        self, batch: Batch, encode: Encode, *, recalls: Sequence[Recall | None], given: Sequence[Thought | None],
        generator: torch.Generator | None = None,
    ) -> Considered:  # fmt: skip
        told = [self._told(thought) for thought in given]
        fresh = [not self._lasts(recall) and len(said) < len(self.slots)
                 for recall, said in zip(recalls, told, strict=True)]  # fmt: skip
        context, predicted = None, [{}] * len(fresh)
        if any(fresh) or self.channel is None or (self.config.hears and self.channel.needs_context):
            context = encode(batch)
        if any(fresh):
            assert context is not None
            predicted = to_marks(self.head.predict(context, self.queries.expand(len(fresh), -1, -1)), self.slots)
        rows = [
            {**self._remembered(recall, made if new else None), **said}
            for recall, made, new, said in zip(recalls, predicted, fresh, told, strict=True)
        ]
        if self.channel is not None:
            context = self._handed(batch, context, encode, to_places(rows, self.marking, self.queries.device))
        assert context is not None
        each = zip(rows, fresh, recalls, told, strict=True)
        thoughts = tuple(self._thought(row, new, recall, said) for row, new, recall, said in each)
        return Considered(context=context, thoughts=thoughts, evaluations=self._evaluations(fresh))

    def require(self, given: Thought) -> None:
        """Raises ConfigError where no mark of `given` is one that this policy thinks of."""
        if given.marks and not self._told(given):
            said = ", ".join(describe(mark) for mark in given.marks)
            ours = ", ".join(f"{slot.role!r} on camera {slot.camera!r}" for slot in self.slots)
            raise ConfigError(f"This policy marks {ours} (form {self.config.form!r}); it cannot follow a {said}.")

    def _told(self, thought: Thought | None) -> dict[Slot, Mark]:
        """The given marks that this policy thinks of; an oracle may know more."""
        return {} if thought is None else assign(thought.marks, self.slots, self.config.form)

    def _lasts(self, recall: Recall | None) -> bool:
        return recall is not None and not recall.event and recall.thought.ages.get(AGE, 0) + 1 < self.config.patience

    def _remembered(self, recall: Recall | None, made: Mapping[Slot, Mark] | None) -> dict[Slot, Mark]:
        """The marks from now on. made: by the head just now; None where the old ones last. Where something was cannot
        be seen once it is done, so that the old place of what is done stays."""
        old = {} if recall is None else assign(recall.thought.marks, self.slots, self.config.form)
        ordered = FORMS[self.config.form].ordered
        if ordered and recall is not None and recall.event:
            old = _next_done(old)
        if made is None:
            return old
        now = {slot: replace(old[slot], done=True) if mark.done and slot in old else mark
               for slot, mark in made.items()}  # fmt: skip
        return now if not ordered else {**old, **now, **{slot: mark for slot, mark in old.items() if mark.done}}

    def _thought(
        self, row: Mapping[Slot, Mark], new: bool, recall: Recall | None, said: Mapping[Slot, Mark]
    ) -> Thought:
        age = 0
        if recall is not None and not new and len(said) < len(self.slots):
            age = recall.thought.ages.get(AGE, 0) + 1
        marks = tuple(row[slot] for slot in self.slots if slot in row)
        return Thought(marks=marks, ages={AGE: age}, tokens=self.head.tokens * len(self.slots) if new else 0)

    def _evaluations(self, fresh: Sequence[bool]) -> Tensor:
        after = 0 if self.channel is None else self.channel.evaluations
        spent = [self.head.evaluations * new + after for new in fresh]
        return torch.tensor(spent, device=self.queries.device)


def _next_done(marks: Mapping[Slot, Mark]) -> dict[Slot, Mark]:
    """The first of those to come, of every camera, is done."""
    first = min((slot.order for slot, mark in marks.items() if not mark.done), default=None)
    return {slot: replace(mark, done=mark.done or slot.order == first) for slot, mark in marks.items()}
