"""Visual primitives of which the decoder hears no words: the instruction reaches it through the marks or not at all.

A reasoner of the study only, around `visual`: the same head on the same context, the channel on a context of silence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from volar.core.model import Batch, Context
from volar.core.reasoner import Considered, Encode, Learned, Reasoner
from volar.core.robot import Camera
from volar.core.thoughts import Recall, Thought
from volar.reasoning.visual import Visual
from volar.reasoning.visual_slots import Places, assign, to_places


class Bottleneck(Reasoner):
    """Final."""

    Config = Visual.Config

    def __init__(self, config: Visual.Config, *, width: int, cameras: tuple[Camera, ...]) -> None:
        super().__init__()
        self.visual = Visual(config, width=width, cameras=cameras)

    def fit(self, thoughts: Sequence[Thought]) -> None:
        self.visual.fit(thoughts)

    def state(self) -> dict[str, Any]:
        return self.visual.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.visual.restore(state)

    def learn(self, batch: Batch, encode: Encode, *, generator: torch.Generator | None = None) -> Learned:
        visual = self.visual
        truth = self._places(batch.thoughts)
        learned = visual.head.learn(encode(batch), visual.queries.expand(len(batch.thoughts), -1, -1), truth)
        context = self._silent(batch, encode, visual._shown(truth, learned.own, generator))
        return Learned(context=context, loss=visual.config.weight * learned.loss)

    def think(
        self, batch: Batch, encode: Encode, *, recalls: Sequence[Recall | None], given: Sequence[Thought | None],
        generator: torch.Generator | None = None,
    ) -> Considered:  # fmt: skip
        found = self.visual.think(batch, encode, recalls=recalls, given=given, generator=generator)
        return replace(found, context=self._silent(batch, encode, self._places(found.thoughts)))

    def _places(self, thoughts: Sequence[Thought]) -> Places:
        visual = self.visual
        rows = [assign(thought.marks, visual.slots, visual.config.form) for thought in thoughts]
        return to_places(rows, visual.marking, visual.queries.device)

    def _silent(self, batch: Batch, encode: Encode, places: Places) -> Context:
        assert self.visual.channel is not None
        silence = replace(batch, instructions=("",) * len(batch.instructions))
        return self.visual.channel(silence, encode(silence), encode, places)
