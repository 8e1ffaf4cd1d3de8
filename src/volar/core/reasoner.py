"""What stands between seeing and acting: a Reasoner turns a batch into the context that the decoder works on.

It may change what is seen (draw on pictures, crop, add words) before the backbone encodes it, or lengthen the context
afterwards; embodied chain-of-thought (arXiv 2407.08693) and visual primitives (arXiv 2605.22183) are both members.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from volar.core.model import Batch, Context
from volar.core.thoughts import Recall, Thought

Encode = Callable[[Batch], Context]


@dataclass(frozen=True, kw_only=True)
class Learned:
    """context: what the decoder learns on. loss: of the thoughts, per sample, weighted; added to the decoder's."""

    context: Context
    loss: Float[Tensor, " b"]


@dataclass(frozen=True, kw_only=True)
class Considered:
    """context: what the decoder works on. evaluations: network evaluations that thinking took, the encoding not
    counted."""

    context: Context
    thoughts: tuple[Thought, ...]
    evaluations: Int[Tensor, " b"]


class Reasoner(nn.Module, ABC):
    """Constructor: `(config, *, width, cameras)`: the context's d, and the RobotSpec's cameras. After it, either `fit`
    or `restore`, which may build parameters, runs once before anything else."""

    @property
    def uses_images(self) -> bool:
        """Whether it works on the pictures themselves, so that stored features of them are not enough."""
        return False

    def require(self, given: Thought) -> None:
        """Raises ConfigError where it could follow nothing of `given`; to be asked before an episode begins, since
        `think` passes over what it has no use for."""

    @abstractmethod
    def fit(self, thoughts: Sequence[Thought]) -> None:
        """Learn vocabulary and the like from labels of the training split. Raises ConfigError where they hold nothing
        to learn from."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """JSON-able state that `restore` turns back into the same reasoner, weights apart."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the reasoner that wrote `state`; takes the place of `fit`."""

    @abstractmethod
    def learn(self, batch: Batch, encode: Encode, *, generator: torch.Generator | None = None) -> Learned:
        """On the labels in `batch.thoughts`, one per sample."""

    @abstractmethod
    def think(
        self, batch: Batch, encode: Encode, *, recalls: Sequence[Recall | None], given: Sequence[Thought | None],
        generator: torch.Generator | None = None,
    ) -> Considered:  # fmt: skip
        """recalls: of each row's last look, None at its first. given: what a person or an oracle says; the segments
        and marks that are in it take the place of the reasoner's own."""
