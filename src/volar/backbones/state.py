"""A backbone without eyes: numbers and words only, for robots whose proprioception holds all there is to know.

Made for studies on `*-state` environments, where a policy trains in a minute on one core.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from volar.core.errors import ConfigError
from volar.core.model import Backbone, Batch, Card, Context, LayerShape
from volar.core.robot import Camera
from volar.nn.transformer import Trunk
from volar.nn.words import hashed_words


class State(Backbone):
    """Context = [tokens of proprioception and instruction together | words]."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """tokens: that stand for the numbers. clip: normalised numbers are held within it, because an object that
        hardly moved in the demonstrations has a tiny deviation and, once moved, thousands of it.
        vocabulary: words are hashed to it."""

        width: int = 128
        depth: int = 2
        heads: int = 4
        tokens: int = 4
        clip: float = 5.0
        vocabulary: int = 1024

        def __post_init__(self) -> None:
            if self.width % self.heads:
                raise ConfigError(f"state: width must be a multiple of heads={self.heads}, got {self.width}.")
            if min(self.depth, self.tokens) < 1 or self.clip <= 0:
                raise ConfigError(
                    f"state: depth and tokens must be at least 1 and clip positive, got depth={self.depth}, "
                    f"tokens={self.tokens}, clip={self.clip}."
                )

    def __init__(
        self,
        config: Config,
        *,
        cameras: tuple[Camera, ...],
        proprioception: int,
        assets: Mapping[str, bytes] | None = None,
    ) -> None:
        super().__init__()
        if cameras or not proprioception:
            raise ConfigError(
                f"The backbone 'state' reads proprioception and no pictures; the robot has {len(cameras)} camera(s) "
                f"and {proprioception} proprioceptive numbers. Take an environment that ends in '-state', or a "
                f"backbone with eyes such as 'compact'."
            )
        self.config = config
        width = config.width
        self.word = nn.Embedding(config.vocabulary, width)
        self.body = nn.Sequential(
            nn.Linear(proprioception + width, 4 * width), nn.GELU(), nn.LayerNorm(4 * width),
            nn.Linear(4 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, config.tokens * width),
        )  # fmt: skip
        self.trunk = Trunk(width, depth=config.depth, heads=config.heads)

    @property
    def width(self) -> int:
        return self.config.width

    @property
    def layer_shape(self) -> LayerShape:
        return self.trunk.layer_shape

    def encode(self, batch: Batch) -> Context:
        said = hashed_words(batch.instructions, vocabulary=self.config.vocabulary, device=batch.proprioception.device)
        words = self.word(said.ids) * said.real[..., None]
        goal = words.sum(dim=1) / said.real.sum(dim=1, keepdim=True).clamp_min(1)
        numbers = batch.proprioception.clamp(-self.config.clip, self.config.clip)
        # The trunk's context does not look at itself, so what belongs together is mixed here.
        body = rearrange(self.body(torch.cat([numbers, goal], dim=-1)), "b (n d) -> b n d", n=self.config.tokens)
        mask = F.pad(said.real, (self.config.tokens, 0), value=True)
        return self.trunk.context(torch.cat([body, words], dim=1), mask, hint=body.mean(dim=1, keepdim=True))

    def card(self) -> Card:
        return Card(name="state", joint_vision_language_pretraining=False)
