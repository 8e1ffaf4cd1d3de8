"""What differs between families of vision-language models: prompt, picture format, image tokens, positions.

Free of transformers: a family describes, `volar.backbones.hf` does. Picture constants are those of each family's
own image processor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

HALF = (0.5, 0.5, 0.5)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Config = Any  # a transformers config; its fields are read, never written


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A batch as the model reads it: token ids with room for the images; which are real, and which are images."""

    ids: Int[Tensor, "b t"]
    mask: Bool[Tensor, "b t"]
    is_image: Bool[Tensor, "b t"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """template: `{bos}` the model's first token, `{images}` one `around` per camera, `{instruction}`.

    side: the model's own picture side. multiple: sides must be multiples of it; None = its own side only.
    tokens: how many tokens a picture of that side becomes.
    arguments: what the model takes beside ids and mask, from normalised pictures [b c 3 side side].
    positions: of the prompt, given to the model as they come; the next free one is the row's highest + 1.
    language: name of the model's language part. two_sided: it is an encoder and a decoder (new tokens go to the
    decoder, which looks at the encoder's states).
    """

    template: str
    around: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    side: Callable[[Config], int]
    multiple: Callable[[Config], int | None]
    tokens: Callable[[Config, int], int]
    arguments: Callable[[Config, Float[Tensor, "b c 3 y x"], Prompt], dict[str, Tensor]]
    positions: Callable[[Any, Prompt, dict[str, Tensor]], Tensor]
    language: str = "language_model"
    two_sided: bool = False


def count_positions(model: Any, prompt: Prompt, arguments: dict[str, Tensor]) -> Int[Tensor, "b t"]:
    """0, 1, 2, ... over the real tokens."""
    return (prompt.mask.long().cumsum(dim=1) - 1).clamp_min(0)


def count_from_one(model: Any, prompt: Prompt, arguments: dict[str, Tensor]) -> Int[Tensor, "b t"]:
    return count_positions(model, prompt, arguments) + 1


def image_grid_positions(model: Any, prompt: Prompt, arguments: dict[str, Tensor]) -> Int[Tensor, "3 b t"]:
    """Qwen-VL: image tokens have time, row and column."""
    return model.get_rope_index(
        prompt.ids, arguments["mm_token_type_ids"], arguments["image_grid_thw"], attention_mask=prompt.mask.long()
    )[0]


def _stacked(config: Config, pictures: Tensor, prompt: Prompt) -> dict[str, Tensor]:
    return {"pixel_values": pictures}


def _flat(config: Config, pictures: Tensor, prompt: Prompt) -> dict[str, Tensor]:
    return {"pixel_values": pictures.flatten(0, 1)}


def _all_prefix(config: Config, pictures: Tensor, prompt: Prompt) -> dict[str, Tensor]:
    """PaliGemma: type 0 = prefix, whose tokens all see one another."""
    return {"pixel_values": pictures.flatten(0, 1), "token_type_ids": torch.zeros_like(prompt.ids)}


def _qwen(config: Config, pictures: Tensor, prompt: Prompt) -> dict[str, Tensor]:
    """Patches in 2 x 2 groups, each patch repeated over the time axis because a picture counts as a short video."""
    vision = config.vision_config
    patch, merge, time = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    flat = pictures.flatten(0, 1)
    patches = rearrange(flat, "n c (y m p) (x k q) -> (n y x m k) c p q", m=merge, k=merge, p=patch, q=patch)
    grid = torch.tensor([1, flat.shape[-2] // patch, flat.shape[-1] // patch], device=flat.device)
    return {
        "pixel_values": repeat(patches, "n c p q -> n (c time p q)", time=time),
        "image_grid_thw": grid.expand(flat.shape[0], 3).contiguous(),
        "mm_token_type_ids": prompt.is_image.int(),
    }


def _shuffled(config: Config) -> int:
    return config.vision_config.patch_size * config.scale_factor


def _merged(config: Config) -> int:
    return config.vision_config.patch_size * config.vision_config.spatial_merge_size


def _llava_tokens(config: Config, side: int) -> int:
    return (side // config.vision_config.patch_size) ** 2 + (config.vision_feature_select_strategy == "full")


SMOL = Family(
    template="{bos}User:{images}{instruction}<end_of_utterance>\nAssistant:",
    around="<fake_token_around_image><global-img>{image}<fake_token_around_image>",
    mean=HALF,
    std=HALF,
    side=lambda config: config.vision_config.image_size,
    multiple=_shuffled,
    tokens=lambda config, side: (side // _shuffled(config)) ** 2,
    arguments=_stacked,
    positions=count_positions,
    language="text_model",
)
PALIGEMMA = Family(
    template="{images}{bos}{instruction}\n",
    around="{image}",
    mean=HALF,
    std=HALF,
    side=lambda config: config.vision_config.image_size,
    multiple=lambda config: None,
    tokens=lambda config, side: (side // config.vision_config.patch_size) ** 2,
    arguments=_all_prefix,
    positions=count_from_one,
)
QWEN2 = Family(
    template="<|im_start|>user\n{images}{instruction}<|im_end|>\n<|im_start|>assistant\n",
    around="<|vision_start|>{image}<|vision_end|>",
    mean=CLIP_MEAN,
    std=CLIP_STD,
    side=lambda config: 8 * _merged(config),
    multiple=_merged,
    tokens=lambda config, side: (side // _merged(config)) ** 2,
    arguments=_qwen,
    positions=image_grid_positions,
)
QWEN3 = Family(
    template=QWEN2.template,
    around=QWEN2.around,
    mean=HALF,
    std=HALF,
    side=QWEN2.side,
    multiple=QWEN2.multiple,
    tokens=QWEN2.tokens,
    arguments=_qwen,
    positions=image_grid_positions,
)
LLAVA = Family(
    template="{bos}USER: {images}\n{instruction} ASSISTANT:",
    around="{image}",
    mean=CLIP_MEAN,
    std=CLIP_STD,
    side=lambda config: config.vision_config.image_size,
    multiple=lambda config: None,
    tokens=_llava_tokens,
    arguments=_flat,
    positions=count_positions,
)
FLORENCE2 = Family(
    template="{images}{bos}{instruction}</s>",
    around="{image}",
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    side=lambda config: 768,
    multiple=lambda config: 32,
    tokens=lambda config, side: (side // 32) ** 2 + 1,
    arguments=_flat,
    positions=count_positions,
    two_sided=True,
)

# by `model_type` in the model's config.json
FAMILIES = {
    "smolvlm": SMOL,
    "idefics3": SMOL,
    "paligemma": PALIGEMMA,
    "qwen2_vl": QWEN2,
    "qwen2_5_vl": QWEN2,
    "qwen3_vl": QWEN3,
    "llava": LLAVA,
    "florence2": FLORENCE2,
}
