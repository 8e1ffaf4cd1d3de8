"""Tiny random vision-language models of the true classes, saved as folders like those on the hub."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SPECIAL = (
    "<pad>", "<s>", "</s>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>",
    "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
IMAGE, VISION_START, VISION_END, QWEN_IMAGE, QWEN_VIDEO = 3, 9, 10, 11, 12
VOCABULARY = len(SPECIAL) + 256


def write_tokenizer(folder: Path) -> None:
    """Bytes as words, no merges; the special tokens first."""
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))


TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
SIGLIP: dict[str, Any] = {
    "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 4,
}  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}


def smolvlm() -> hf.PreTrainedModel:
    config = hf.SmolVLMConfig(
        vision_config=dict(SIGLIP), text_config={**TEXT, "model_type": "llama"}, scale_factor=2, image_token_id=IMAGE
    )
    return hf.SmolVLMForConditionalGeneration(config)


def idefics3() -> hf.PreTrainedModel:
    config = hf.Idefics3Config(
        vision_config=dict(SIGLIP), text_config={**TEXT, "model_type": "llama"}, scale_factor=2, image_token_id=IMAGE
    )
    return hf.Idefics3ForConditionalGeneration(config)


def paligemma() -> hf.PreTrainedModel:
    config = hf.PaliGemmaConfig(
        vision_config={**SIGLIP, "model_type": "siglip_vision_model", "vision_use_head": False},
        text_config={**TEXT, "model_type": "gemma"},
        image_token_index=IMAGE,
        projection_dim=32,
    )
    return hf.PaliGemmaForConditionalGeneration(config)


def qwen2_5_vl() -> hf.PreTrainedModel:
    vision = {
        "depth": 2, "hidden_size": 24, "intermediate_size": 32, "num_heads": 2, "patch_size": 4, "out_hidden_size": 32,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "fullatt_block_indexes": [1], "window_size": 16,
    }  # fmt: skip
    config = hf.Qwen2_5_VLConfig(
        vision_config=vision,
        text_config={**TEXT, "rope_parameters": ROPE},
        image_token_id=QWEN_IMAGE,
        video_token_id=QWEN_VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
    )
    return hf.Qwen2_5_VLForConditionalGeneration(config)


def qwen3_vl() -> hf.PreTrainedModel:
    vision = {
        "depth": 2, "hidden_size": 24, "intermediate_size": 32, "num_heads": 2, "patch_size": 4, "out_hidden_size": 32,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "deepstack_visual_indexes": [0],
        "num_position_embeddings": 64,
    }  # fmt: skip
    config = hf.Qwen3VLConfig(
        vision_config=vision,
        text_config={**TEXT, "rope_parameters": ROPE},
        image_token_id=QWEN_IMAGE,
        video_token_id=QWEN_VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
    )
    return hf.Qwen3VLForConditionalGeneration(config)


def llava() -> hf.PreTrainedModel:
    config = hf.LlavaConfig(
        vision_config={**SIGLIP, "model_type": "clip_vision_model", "projection_dim": 24},
        text_config={**TEXT, "model_type": "llama"},
        image_token_index=IMAGE,
    )
    return hf.LlavaForConditionalGeneration(config)


def florence2() -> hf.PreTrainedModel:
    vision = {
        "embed_dim": [8, 16, 16, 24], "num_heads": [2, 2, 2, 2], "num_groups": [2, 2, 2, 2], "depths": [1, 1, 1, 1],
        "window_size": 4, "projection_dim": 32,
    }  # fmt: skip
    text = {
        "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "max_position_embeddings": 512, "model_type": "bart",
    }  # fmt: skip
    return hf.Florence2ForConditionalGeneration(
        hf.Florence2Config(vision_config=vision, text_config=text, image_token_id=IMAGE)
    )


BUILDERS: dict[str, Callable[[], hf.PreTrainedModel]] = {
    builder.__name__: builder for builder in (smolvlm, idefics3, paligemma, qwen2_5_vl, qwen3_vl, llava, florence2)
}
SIDES = {"florence2": 64, "qwen2_5_vl": 16, "qwen3_vl": 16}  # pictures; the others have the 16 of their config


def save(name: str, folder: Path) -> Path:
    """Write the model's folder. The weights are larger than at birth, so that a lost token shows in the result."""
    torch.manual_seed(0)
    model = BUILDERS[name]().eval()
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                value.mul_(4)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder
