"""A random backbone that reads in a minute and trains in seconds; for tests and teaching, not for robots."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from volar.core.errors import ConfigError, unknown_name
from volar.core.model import Backbone, Batch, Card, Context, LayerShape
from volar.core.robot import Camera
from volar.nn.transformer import Trunk
from volar.nn.words import hashed_words


class Tiny(Backbone):
    """Context = [patches of each camera | words | proprioception]."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """side: pictures are averaged to side x side pixels, whatever they were. vocabulary: words are hashed to it."""

        width: int = 64
        depth: int = 2
        heads: int = 4
        side: int = 32
        patch: int = 8
        vocabulary: int = 4096

        def __post_init__(self) -> None:
            if self.side % self.patch:
                raise ConfigError(f"tiny: side must be a multiple of patch={self.patch}, got {self.side}.")
            if self.width % self.heads:
                raise ConfigError(f"tiny: width must be a multiple of heads={self.heads}, got {self.width}.")

    def __init__(
        self,
        config: Config,
        *,
        cameras: tuple[Camera, ...],
        proprioception: int,
        assets: Mapping[str, bytes] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.cameras = tuple(camera.name for camera in cameras)
        width, patches = config.width, (config.side // config.patch) ** 2
        self.patch = nn.Sequential(nn.Linear(3 * config.patch**2, width), nn.GELU(), nn.Linear(width, width))
        self.place = nn.Parameter(0.5 * torch.randn(len(cameras), patches, width))
        self.word = nn.Embedding(config.vocabulary, width)
        self.body = nn.Sequential(nn.Linear(proprioception, width), nn.GELU(), nn.Linear(width, width))
        self.trunk = Trunk(width, depth=config.depth, heads=config.heads)

    @property
    def width(self) -> int:
        return self.config.width

    @property
    def layer_shape(self) -> LayerShape:
        return self.trunk.layer_shape

    def encode(self, batch: Batch) -> Context:
        seen = [self._patches(batch, index) for index in range(len(self.cameras))]
        said = hashed_words(batch.instructions, vocabulary=self.config.vocabulary, device=self.place.device)
        words = self.word(said.ids) * said.real[..., None]
        goal = words.sum(dim=1, keepdim=True) / said.real.sum(dim=1)[:, None, None].clamp_min(1)
        tokens = torch.cat([*seen, self.body(batch.proprioception)[:, None], words], dim=1)
        mask = F.pad(said.real, (tokens.shape[1] - said.real.shape[1], 0), value=True)
        return self.trunk.context(tokens, mask, hint=goal)

    def card(self) -> Card:
        return Card(name="tiny", joint_vision_language_pretraining=False)

    def _patches(self, batch: Batch, index: int) -> Float[Tensor, "b n d"]:
        name = self.cameras[index]
        if name not in batch.images:
            raise unknown_name("camera in the batch", name, batch.images)
        images: UInt8[Tensor, "b height width 3"] = batch.images[name]
        pixels = images.permute(0, 3, 1, 2).to(self.place.dtype) / 127.5 - 1
        pixels = F.adaptive_avg_pool2d(pixels, self.config.side)
        side = self.config.patch
        return self.patch(rearrange(pixels, "b c (y h) (x w) -> b (y x) (h w c)", h=side, w=side)) + self.place[index]
