"""A policy's chunks at exact states: asked for under seeds made from the state, several at once, and kept.

So equal states get equal chunks, and a chunk that was computed once costs nothing more.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from volar.core.robot import Actor, BatchActor, Chunk, Observation

KEPT = 20_000  # chunks: a few hundred bytes each


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which draw of the policy: the `number`-th one (0 is its own chunk) at the state `key` under `seed`."""

    key: str
    seed: int
    number: int = 0

    @property
    def mixed(self) -> int:
        """A seed for the policy."""
        return mixed(self.key, self.seed, self.number)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A draw that is wanted, and what the policy sees there."""

    place: Place
    observation: Observation


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """evaluations: of the network, that this draw cost."""

    actions: Float32[np.ndarray, "h a"]
    evaluations: int = 0


class Draws:
    """Final. evaluations: of the network, so far."""

    def __init__(self, policy: Actor) -> None:
        self.policy, self.evaluations = policy, 0
        self._kept: OrderedDict[Place, Float32[np.ndarray, "h a"]] = OrderedDict()

    def clear(self) -> None:
        self._kept.clear()

    def kept(self, place: Place) -> Drawn | None:
        """What was drawn there before."""
        actions = self._kept.get(place)
        return None if actions is None else Drawn(actions=actions)

    def ask(self, questions: Sequence[Question]) -> list[Drawn]:
        """In their order. A BatchActor answers all that are new at once, under the seed of the first of them."""
        new = {each.place: each for each in questions if each.place not in self._kept}
        chunks = dict(zip(new, self._decide(list(new.values())), strict=True)) if new else {}
        answers = []
        for question in questions:
            chunk = chunks.pop(question.place, None)
            if chunk is not None:
                self._kept[question.place] = chunk.actions
                self.evaluations += chunk.evaluations
            evaluations = 0 if chunk is None else chunk.evaluations
            answers.append(Drawn(actions=self._kept[question.place], evaluations=evaluations))
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return answers

    def draw(self, key: str, observe: Callable[[], Observation], seed: int, num: int) -> Float32[np.ndarray, "n h a"]:
        """The policy's own chunk and num - 1 further draws. observe: called where something is new."""
        places = [Place(key=key, seed=seed, number=number) for number in range(num)]
        if any(place not in self._kept for place in places):
            seen = observe()
            # The own chunk alone first, so that it does not depend on how many others are wanted.
            self.ask([Question(place=places[0], observation=seen)])
            self.ask([Question(place=place, observation=seen) for place in places[1:]])
        return np.stack([self._kept[place] for place in places])

    def _decide(self, questions: Sequence[Question]) -> list[Chunk]:
        if isinstance(self.policy, BatchActor):
            self.policy.reset(questions[0].place.mixed)
            return self.policy.act_many(range(len(questions)), [each.observation for each in questions])
        chunks = []
        for question in questions:
            self.policy.reset(question.place.mixed)
            chunks.append(self.policy.act(question.observation))
        return chunks


def mixed(key: str, seed: int, number: int) -> int:
    """A seed for whatever is drawn as that number at that state."""
    return int.from_bytes(hashlib.sha256(f"{key}/{seed}/{number}".encode()).digest()[:4], "little")
