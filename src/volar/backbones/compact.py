"""Small policy backbone on two frozen pretrained towers: DINOv2-S sees, SmolLM2 reads, a small trainable part joins.

Not a vision-language model: the towers never saw pictures and words together, and its card says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from volar.backbones.towers import Grid, LanguageTower, VisionTower
from volar.backbones.weights import LANGUAGE, VISION
from volar.core.errors import ConfigError, unknown_name
from volar.core.model import Batch, Card, Context, FrozenVision, LayerShape
from volar.core.robot import Camera
from volar.nn.transformer import Trunk, sinusoid

TOKENIZER_FILE = "tokenizer.json"


def grid_position(grid: Grid, width: int) -> Float[Tensor, "n d"]:
    """Sines and cosines of row (first half) and column (second half), both running from 0 to 1."""
    rows = sinusoid(torch.linspace(0, 1, grid.rows), width // 2, low=0.25)
    columns = sinusoid(torch.linspace(0, 1, grid.columns), width // 2, low=0.25)
    both = (rows[:, None].expand(-1, grid.columns, -1), columns[None].expand(grid.rows, -1, -1))
    return torch.cat(both, dim=-1).flatten(0, 1)


class Compact(FrozenVision):
    """Context = [patches of each camera | instruction tokens | proprioception]; every camera's patches are scaled and
    shifted by the instruction (FiLM, arXiv 1709.07871), and so are, additively, the tokens that continue it."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """width: d, a multiple of 4 and of heads. depth: blocks that new tokens pass. language_layers: of SmolLM2's 30.
        patches: at most so many a camera; 64 is an 8 x 8 grid of a 112-pixel picture, larger ones are shrunk to it."""

        width: int = 192
        depth: int = 4
        heads: int = 4
        language_layers: int = 8
        patches: int = 64

        def __post_init__(self) -> None:
            if self.width % 4 or self.width % self.heads:
                raise ConfigError(
                    f"compact: width must be a multiple of 4 and of heads={self.heads}, got {self.width}."
                )
            if self.depth < 1 or self.patches < 1:
                raise ConfigError(f"compact: depth and patches must be at least 1, got {self.depth}, {self.patches}.")

    def __init__(
        self,
        config: Config,
        *,
        cameras: tuple[Camera, ...],
        proprioception: int,
        assets: Mapping[str, bytes] | None = None,
        weights: Path | None = None,
    ) -> None:
        """weights: folder that `volar weights install` filled, None for its default. ConfigError if missing."""
        super().__init__()
        self.config = config
        self.cameras = tuple(camera.name for camera in cameras)
        if assets is not None and TOKENIZER_FILE not in assets:
            raise ConfigError(
                f"A saved compact backbone has {TOKENIZER_FILE} beside its weights; got {sorted(assets)}."
            )
        tokenizer = None if assets is None else assets[TOKENIZER_FILE]
        self.vision = VisionTower(patches=config.patches, pretrained=assets is None, folder=weights)
        self.language = LanguageTower(layers=config.language_layers, tokenizer=tokenizer, folder=weights)
        grids = [self.vision.grid(camera.height, camera.width) for camera in cameras]
        width = config.width
        self.patch = nn.Linear(self.vision.width, width)
        self.place = nn.ParameterList(
            nn.Parameter(grid_position(grid, width) + 0.02 * torch.randn(width)) for grid in grids
        )
        self.film = nn.Sequential(nn.Linear(self.language.width, width), nn.GELU(), nn.Linear(width, 3 * width))
        self.word = nn.Linear(self.language.width, width)
        self.body = nn.Sequential(nn.Linear(proprioception, width), nn.GELU(), nn.Linear(width, width))
        self.trunk = Trunk(width, depth=config.depth, heads=config.heads)

    @property
    def width(self) -> int:
        return self.config.width

    @property
    def layer_shape(self) -> LayerShape:
        return self.trunk.layer_shape

    def features(self, images: UInt8[Tensor, "b _ _ 3"]) -> Float[Tensor, "b n 384"]:
        return self.vision(images)

    def features_key(self) -> str:
        return self.vision.key()

    def encode(self, batch: Batch) -> Context:
        text = self.language(batch.instructions)
        scale, shift, goal = self.film(text.pooled())[text.row].chunk(3, dim=-1)
        patches = [self._patches(batch, index) for index in range(len(self.cameras))]
        seen = torch.cat(patches, dim=1) * (1 + scale[:, None]) + shift[:, None]
        words = self.word(text.states)[text.row]
        body = self.body(batch.proprioception)[:, None]
        tokens = torch.cat([seen, words, body], dim=1)
        mask = self._mask(seen.shape[1], text.mask[text.row])
        return self.trunk.context(tokens, mask, hint=goal[:, None])

    def card(self) -> Card:
        return Card(
            name="compact",
            joint_vision_language_pretraining=False,
            pretrained_parts=(
                f"DINOv2-S/14, blocks 1-{VisionTower.blocks}, frozen ({VISION.requirement})",
                f"SmolLM2-135M-Instruct, layers 1-{self.config.language_layers}, frozen ({LANGUAGE.requirement})",
            ),
        )

    def assets(self) -> dict[str, bytes]:
        return {TOKENIZER_FILE: self.language.tokenizer.to_str().encode()}

    def _patches(self, batch: Batch, index: int) -> Float[Tensor, "b n d"]:
        name = self.cameras[index]
        if name in batch.features:
            features = batch.features[name].to(self.patch.weight.dtype)
        elif name in batch.images:
            features = self.features(batch.images[name])
        else:
            raise unknown_name("camera in the batch", name, {*batch.images, *batch.features})
        place = self.place[index]
        if features.shape[1:] != (place.shape[0], self.vision.width):
            raise ConfigError(
                f"Camera {name!r} gives patch features {list(features.shape[1:])}, expected "
                f"[{place.shape[0]} {self.vision.width}]: the picture size or the feature cache is another one."
            )
        return self.patch(features) + place

    @staticmethod
    def _mask(seen: int, words: Bool[Tensor, "b n"]) -> Bool[Tensor, "b t"]:
        ones = torch.ones(words.shape[0], seen + 1, dtype=torch.bool, device=words.device)
        return torch.cat([ones[:, :seen], words, ones[:, seen:]], dim=1)
