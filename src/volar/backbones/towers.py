"""The two frozen pretrained towers of `compact`: DINOv2-S patches and SmolLM2 text states. Neither is ever trained.

Which layers are worth taking was measured: docs/weights.md.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from tokenizers import Tokenizer
from torch import Tensor, nn

from volar.backbones.weights import LANGUAGE, VISION, load_file, load_tensors
from volar.core.errors import ConfigError
from volar.nn.llama import Llama, LlamaShape
from volar.nn.vit import VisionTransformer

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# A sentence's states differ little from one another: a few channels are huge and most of each vector is common to all
# sentences. Standardised per channel over these, cos("open the faucet", "close the faucet") falls from 0.96 to 0.59.
REFERENCE = (
    "put the red block in the box", "open the top drawer", "close the microwave door", "turn the knob to the right",
    "pick up the mug and place it on the shelf", "press the green button", "push the chair under the table",
    "pull the handle down", "stack the cup on the plate", "wipe the table with a cloth",
    "move to the left of the bottle", "slide the window open", "pour water into the bowl",
    "unplug the cable from the socket", "fold the towel in half", "lift the lid and insert the peg",
    "drop the ball into the basket", "rotate the lever away from you", "take the spoon out of the sink",
    "hang the key on the hook", "stop above the target and wait", "close the gripper around the pen",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How many patches a camera's picture is cut into."""

    rows: int
    columns: int

    @property
    def patches(self) -> int:
        return self.rows * self.columns


class VisionTower(nn.Module):
    """uint8 pictures -> standardised patch tokens of DINOv2-S/14 after block 9, without the class token."""

    width = 384
    blocks = 9

    def __init__(self, *, patches: int, pretrained: bool, folder: Path | None = None) -> None:
        super().__init__()
        self.patches = patches
        self.transformer = VisionTransformer(depth=self.blocks)
        if pretrained:
            unused = {f"blocks.{index}" for index in range(self.blocks, 12)} | {"norm"}
            self.transformer.load_state_dict(
                load_tensors(
                    VISION, folder=folder, keep=lambda name: not name.startswith(tuple(f"{u}." for u in unused))
                )
            )
        self.requires_grad_(False)

    def grid(self, height: int, width: int) -> Grid:
        """The nearest multiple of 14 on each side; shrunk in proportion while there are more than `patches`."""
        patch = self.transformer.patch
        shrink = min(1.0, (self.patches * patch * patch / (height * width)) ** 0.5)
        rows, columns = (max(1, round(side * shrink / patch)) for side in (height, width))
        while rows * columns > self.patches and max(rows, columns) > 1:
            rows, columns = (rows - 1, columns) if rows >= columns else (rows, columns - 1)
        return Grid(rows=rows, columns=columns)

    @torch.no_grad()
    def forward(self, images: UInt8[Tensor, "b height width 3"]) -> Float[Tensor, "b n 384"]:
        """Sides that are no multiple of 14 are resized, bilinear with antialiasing. float32, also under autocast."""
        grid = self.grid(images.shape[1], images.shape[2])
        size = (grid.rows * self.transformer.patch, grid.columns * self.transformer.patch)
        with torch.autocast(images.device.type, enabled=False):
            pixels = images.permute(0, 3, 1, 2).float() / 255
            if pixels.shape[-2:] != size:
                pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)
            mean, std = (pixels.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
            hidden = self.transformer((pixels - mean) / std)
            return F.layer_norm(hidden[:, 1:], (self.width,))

    def key(self) -> str:
        """Hash of the weights and of everything done to a picture before and after them."""
        sha = hashlib.sha256(f"dinov2-s/14 block {self.blocks}, imagenet, {self.patches} patches, v1".encode())
        for name, value in sorted(self.state_dict().items()):
            sha.update(name.encode())
            sha.update(value.cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Text:
    """The distinct sentences u of a batch, padded on the right, and which of them each row of the batch has."""

    states: Float[Tensor, "u n d"]
    mask: Bool[Tensor, "u n"]
    row: Int[Tensor, " b"]

    def pooled(self) -> Float[Tensor, "u d"]:
        """Mean over the real tokens; zero for an empty sentence."""
        weight = self.mask[..., None].to(self.states.dtype)
        return (self.states * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)


class LanguageTower(nn.Module):
    """Sentences -> standardised states of SmolLM2-135M after `layers` layers; each sentence is computed once."""

    width = 576
    remember = 1024  # sentences; about 50 kB each
    mean: Tensor
    std: Tensor

    def __init__(self, *, layers: int, tokenizer: bytes | None = None, folder: Path | None = None) -> None:
        """tokenizer: content of a saved tokenizer.json; then the weights are left random, to be loaded."""
        super().__init__()
        if not 1 <= layers <= 30:
            raise ConfigError(f"SmolLM2-135M has 30 layers; language_layers must be 1 to 30, got {layers}.")
        pretrained = tokenizer is None
        self.model = Llama(LlamaShape(layers=layers))
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("std", torch.ones(self.width))
        if tokenizer is None:
            tokenizer = load_file(LANGUAGE, "tokenizer.json", folder=folder)
        self.tokenizer = Tokenizer.from_str(tokenizer.decode())
        self._known: OrderedDict[str, Tensor] = OrderedDict()
        self.register_load_state_dict_post_hook(lambda module, _: module._known.clear())
        if pretrained:
            skip = tuple(f"layers.{index}." for index in range(layers, 30))
            self.model.load_state_dict(
                load_tensors(LANGUAGE, folder=folder, keep=lambda name: not name.startswith(skip))
            )
            reference = torch.cat([self._states(sentence) for sentence in REFERENCE])
            self.mean.copy_(reference.mean(dim=0))
            self.std.copy_(reference.std(dim=0))
        self.requires_grad_(False)

    def forward(self, sentences: tuple[str, ...]) -> Text:
        distinct = list(dict.fromkeys(sentences))
        states = [self._remembered(sentence).to(self.mean.device) for sentence in distinct]
        longest = max(1, *(len(each) for each in states))
        padded = torch.stack([F.pad(each, (0, 0, 0, longest - len(each))) for each in states])
        lengths = torch.tensor([len(each) for each in states], device=padded.device)
        index = {sentence: number for number, sentence in enumerate(distinct)}
        return Text(
            states=padded,
            mask=torch.arange(longest, device=padded.device) < lengths[:, None],
            row=torch.tensor([index[sentence] for sentence in sentences], device=padded.device),
        )

    def _remembered(self, sentence: str) -> Float[Tensor, "n d"]:
        if sentence in self._known:
            self._known.move_to_end(sentence)
        else:
            self._known[sentence] = (self._states(sentence) - self.mean) / self.std
            if len(self._known) > self.remember:
                self._known.popitem(last=False)
        return self._known[sentence]

    def _states(self, sentence: str) -> Float[Tensor, "n d"]:
        """One sentence by itself, so that its states never depend on what else is in the batch. The end-of-text token
        goes before it to take up the attention that a Llama throws onto its first token, and is dropped again."""
        ids = [0, *self.tokenizer.encode(sentence).ids]
        device = self.mean.device
        # Remembered for later batches, so autocast's precision of this one must not get in.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            embeddings = self.model.embedding(torch.tensor([ids], device=device))
            return self.model(embeddings).hidden[0, 1:]
