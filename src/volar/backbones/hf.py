"""Any Hugging Face vision-language model as a backbone: by hub name or folder; frozen, with LoRA, or trained in full.

The only door to transformers. Pictures and prompts are prepared here, since the models' own processors want
torchvision. Code from the hub is never run, and only safetensors are read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.utils import cached_file, logging

from volar.backbones.families import FAMILIES, Prompt
from volar.core.errors import ConfigError, unknown_name
from volar.core.model import Backbone, Batch, Card, Context, Extended, LayerShape
from volar.core.robot import Camera
from volar.nn.transformer import causal_mask, real_tokens

CONFIG_FILE, TOKENIZER_FILE = "vlm_config.json", "vlm_tokenizer.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the language part has read so far. position: of the next token, per row. layers: keys and values
    [b heads t d_head] that new tokens look at. Of an encoder-decoder: the first `encoded` states are the encoder's,
    `layers` are made of them, and `said` are the decoder's own keys and values of the tokens that came after."""

    hidden: Float[Tensor, "b t d"]
    mask: Bool[Tensor, "b t"]
    position: Int[Tensor, " b"]
    layers: tuple[tuple[Tensor, Tensor], ...]
    encoded: int = 0
    said: tuple[tuple[Tensor, Tensor], ...] = ()


class HuggingFace(Backbone):
    """Context = last hidden states over [images and instruction, in the model's own prompt | proprioception].

    `extend` goes on in the same language model over the kept keys and values. In an encoder-decoder (Florence-2) the
    context is the encoder's states; `extend` runs the decoder, and `layers` are its keys and values of the context.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """model: hub name or folder. train: what is trained beside the proprioception token ("lora": adapters on every
        linear map of the language part; the vision part stays frozen). image_size: side in pixels to which pictures
        are resized, aspect ratio not kept; None = the model's own. layers: keep only the first so many of the
        language part. prompt: as `Family.template`; None = the family's own. precision: of the model's weights; what
        comes out is float32."""

        model: str = "HuggingFaceTB/SmolVLM2-256M-Video-Instruct"
        train: Literal["frozen", "lora", "full"] = "frozen"
        lora_rank: int = 16
        image_size: int | None = None
        layers: int | None = None
        prompt: str | None = None
        precision: Literal["float32", "bfloat16"] = "float32"

        def __post_init__(self) -> None:
            if self.train not in ("frozen", "lora", "full"):
                raise unknown_name("way to train (train=)", self.train, ("frozen", "lora", "full"))
            if self.precision not in DTYPES:
                raise unknown_name("precision", self.precision, DTYPES)
            if self.lora_rank < 1 or (self.layers is not None and self.layers < 1):
                raise ConfigError(f"lora_rank and layers must be at least 1, got {self.lora_rank} and {self.layers}.")
            if self.prompt is not None and self.prompt.count("{images}") != 1:
                raise ConfigError(f"prompt must contain {{images}} exactly once, got {self.prompt!r}.")

    def __init__(
        self,
        config: Config,
        *,
        cameras: tuple[Camera, ...],
        proprioception: int,
        assets: Mapping[str, bytes] | None = None,
    ) -> None:
        """Raises ConfigError when the model cannot be found, is of an unknown family or does not fit the config."""
        super().__init__()
        if not cameras:
            raise ConfigError("A vision-language model needs at least one camera.")
        self.config = config
        self.cameras = tuple(camera.name for camera in cameras)
        facts, self.tokenizer = _find(config.model) if assets is None else _restore(assets)
        if facts.model_type not in FAMILIES:
            raise unknown_name("supported family of vision-language models", facts.model_type, FAMILIES)
        self.facts = facts.to_dict()
        self.family = FAMILIES[facts.model_type]
        self.side = self._picture_side(facts)
        self.image_tokens = self.family.tokens(facts, self.side)
        self.vlm: Any = AutoModel.from_config(facts) if assets is not None else _load(config, facts)
        self.vlm.to(DTYPES[config.precision])
        self._keep_layers()
        self.vlm.requires_grad_(config.train == "full")
        if config.train == "lora":
            self._add_adapters()
        width = self.width
        self.body = (
            nn.Sequential(nn.Linear(proprioception, width), nn.GELU(), nn.Linear(width, width))
            if proprioception
            else None
        )
        self.register_state_dict_post_hook(_drop_tied)
        self.register_load_state_dict_pre_hook(_restore_tied)
        self.train()

    @property
    def width(self) -> int:
        return self.vlm.config.get_text_config().hidden_size

    @property
    def layer_shape(self) -> LayerShape:
        if self.family.two_sided:
            layers = self.language.decoder.layers
            reads = layers[0].encoder_attn
            return LayerShape(
                layers=len(layers), heads=reads.num_heads, key_heads=reads.num_heads, head_dim=reads.head_dim
            )
        facts, frequencies = self.vlm.config.get_text_config(), self.language.rotary_emb.inv_freq.tolist()
        return LayerShape(
            layers=len(self.language.layers), heads=facts.num_attention_heads, key_heads=facts.num_key_value_heads,
            head_dim=2 * len(frequencies), frequencies=tuple(frequencies),
        )  # fmt: skip

    @property
    def language(self) -> Any:
        return self.vlm.get_submodule(self.family.language)

    def encode(self, batch: Batch) -> Context:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.train != "frozen"):
            read = self._read(batch)
        if self.body is not None:
            read = self._add_body(read, self.body(batch.proprioception)[:, None])

        return self._context(read)

    def _context(self, read: Reading) -> Context:
        def extend(new: Float[Tensor, "b s d"], sees: Bool[Tensor, "*rows s s"]) -> Extended:
            longer = self._continue(read, new, sees)
            return Extended(hidden=longer.hidden[:, -new.shape[1] :].float(), context=self._context(longer))

        return Context(
            tokens=read.hidden.float(), mask=read.mask, extend=extend, layers=_all_layers(read), embed=self._embed,
            position=None if self.family.two_sided else read.position,
        )  # fmt: skip

    def card(self) -> Card:
        trained = {"frozen": "frozen", "lora": f"LoRA rank {self.config.lora_rank}", "full": "trained in full"}
        return Card(
            name=f"hf:{self.config.model}",
            joint_vision_language_pretraining=True,
            pretrained_parts=(f"{self.config.model} ({self.vlm.config.model_type}), {trained[self.config.train]}",),
        )

    def assets(self) -> dict[str, bytes]:
        config = json.dumps(self.facts, indent=1).encode()
        return {CONFIG_FILE: config, TOKENIZER_FILE: self.tokenizer.to_str().encode()}

    def train(self, mode: bool = True) -> "HuggingFace":
        """A frozen model stays in evaluation mode: no dropout in what is not trained."""
        super().train(mode)
        if self.config.train == "frozen":
            self.vlm.eval()
        return self

    def _embed(self, ids: Int[Tensor, "b s"]) -> Float[Tensor, "b s d"]:
        return self.vlm.get_input_embeddings()(ids).float()

    def _read(self, batch: Batch) -> Reading:
        prompt = self._prompt(batch.instructions)
        arguments = self.family.arguments(self.vlm.config, self._pictures(batch), prompt)
        if self.family.two_sided:
            return self._read_two_sided(prompt, arguments["pixel_values"])
        positions = self.family.positions(self.vlm, prompt, arguments)
        cache = DynamicCache()
        output = self.vlm(
            input_ids=prompt.ids, attention_mask=prompt.mask.long(), position_ids=positions,
            past_key_values=cache, use_cache=True, **arguments,
        )  # fmt: skip
        last = positions.masked_fill(~prompt.mask, -1).view(-1, *prompt.mask.shape).amax(dim=(0, 2))
        return Reading(hidden=output.last_hidden_state, mask=prompt.mask, position=last + 1, layers=_keys_values(cache))

    def _read_two_sided(self, prompt: Prompt, pixels: Tensor) -> Reading:
        embeddings = self.vlm.get_input_embeddings()(prompt.ids)
        pictures = self.vlm.get_image_features(pixels).pooler_output.to(embeddings.dtype)
        embeddings = embeddings.masked_scatter(prompt.is_image[..., None], pictures)
        hidden = self.language.encoder(inputs_embeds=embeddings, attention_mask=prompt.mask.long()).last_hidden_state
        return self._two_sided(hidden, prompt.mask)

    def _two_sided(self, hidden: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Reading:
        layers = []
        for layer in self.language.decoder.layers:
            attention = layer.encoder_attn
            heads = (attention.k_proj(hidden), attention.v_proj(hidden))
            layers.append(tuple(each.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for each in heads))
        start = torch.zeros(hidden.shape[0], dtype=torch.long, device=hidden.device)
        return Reading(hidden=hidden, mask=mask, position=start, layers=tuple(layers), encoded=hidden.shape[1])

    def _add_body(self, read: Reading, token: Float[Tensor, "b 1 d"]) -> Reading:
        """Proprioception is read after the prompt, like the state of pi0; an encoder's states are just joined by it."""
        token = token.to(read.hidden.dtype)
        if not self.family.two_sided:
            # Words are much smaller than 1 in most models; a token of another size would drown them.
            return self._continue(read, token * self._word_scale(), causal_mask(1, token.device))
        mask = F.pad(read.mask, (0, 1), value=True)
        return self._two_sided(torch.cat([read.hidden, token], dim=1), mask)

    @torch.no_grad()
    def _word_scale(self) -> Tensor:
        return self.vlm.get_input_embeddings()(torch.arange(64, device=self.vlm.device)).std()

    def _continue(self, read: Reading, new: Float[Tensor, "b s d"], sees: Bool[Tensor, "*rows s s"]) -> Reading:
        """The kept keys and values are copied into a cache of this call's own, so `read` can be continued again."""
        batch, size = new.shape[:2]
        real = real_tokens(sees, batch, size)
        new, among = new.to(self.vlm.dtype), (sees & real[:, None])[:, None]
        before = read.mask if not self.family.two_sided else read.mask[:, read.encoded :]
        seen = torch.cat([before[:, None, None].expand(-1, -1, size, -1), among], dim=-1)
        kept = DynamicCache(ddp_cache_data=read.layers)
        if self.family.two_sided:  # its own positions count padding: a padded row stands further off
            said = DynamicCache(ddp_cache_data=read.said)
            output = self.language.decoder(
                inputs_embeds=new, attention_mask=_additive(seen, new.dtype),
                encoder_hidden_states=read.hidden[:, : read.encoded],
                encoder_attention_mask=read.mask[:, : read.encoded].long(), use_cache=True,
                past_key_values=EncoderDecoderCache(said, kept),
            )  # fmt: skip
        else:
            said = DynamicCache()
            output = self.language(
                inputs_embeds=new, attention_mask=_additive(seen, new.dtype), past_key_values=kept, use_cache=True,
                position_ids=read.position[:, None] + (real.cumsum(-1) - 1).clamp(min=0),
            )  # fmt: skip
        return Reading(
            hidden=torch.cat([read.hidden, output.last_hidden_state], dim=1),
            mask=torch.cat([read.mask, real], dim=1),
            position=read.position + real.sum(-1),
            layers=_keys_values(kept),
            encoded=read.encoded,
            said=_keys_values(said),
        )

    def _prompt(self, instructions: tuple[str, ...]) -> Prompt:
        image_id = self.vlm.config.image_token_id
        around = [self._ids(piece) for piece in self.family.around.split("{image}")]
        image = [*around[0], *[image_id] * self.image_tokens, *around[1]]
        before, after = (self.config.prompt or self.family.template).split("{images}")
        rows = []
        for instruction in instructions:
            head, tail = (self._ids(piece, instruction) for piece in (before, after))
            if image_id in (*head, *tail):
                raise ConfigError(f"The instruction {instruction!r} contains the model's own image token.")
            rows.append([*head, *image * len(self.cameras), *tail])
        longest, device = max(len(row) for row in rows), self.vlm.device
        padding = 1 if image_id == 0 else 0
        ids = torch.tensor([row + [padding] * (longest - len(row)) for row in rows], device=device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(longest, device=device) < lengths[:, None]
        return Prompt(ids=ids, mask=mask, is_image=ids == image_id)

    def _ids(self, text: str, instruction: str = "") -> list[int]:
        first = self.vlm.config.get_text_config().bos_token_id
        text = text.replace("{bos}", "" if first is None else self.tokenizer.id_to_token(first) or "")
        return self.tokenizer.encode(text.replace("{instruction}", instruction), add_special_tokens=False).ids

    def _pictures(self, batch: Batch) -> Float[Tensor, "b c 3 y x"]:
        pictures = []
        for name in self.cameras:
            if name not in batch.images:
                raise unknown_name("camera in the batch", name, batch.images)
            pixels = batch.images[name].permute(0, 3, 1, 2).float() / 255
            if pixels.shape[-2:] != (self.side, self.side):
                pixels = F.interpolate(pixels, size=(self.side, self.side), mode="bicubic", antialias=True)
            pictures.append(pixels.clamp(0, 1))
        stacked = torch.stack(pictures, dim=1)
        mean, std = (stacked.new_tensor(values)[:, None, None] for values in (self.family.mean, self.family.std))
        return ((stacked - mean) / std).to(self.vlm.dtype).contiguous()

    def _picture_side(self, facts: Any) -> int:
        own, multiple = self.family.side(facts), self.family.multiple(facts)
        side = self.config.image_size or own
        if multiple is None and side != own:
            raise ConfigError(f"{self.config.model} takes pictures of {own} pixels only, got image_size={side}.")
        if multiple is not None and side % multiple:
            nearest = max(1, round(side / multiple)) * multiple
            raise ConfigError(f"image_size must be a multiple of {multiple} for this model, got {side}; try {nearest}.")
        limit = facts.get_text_config().max_position_embeddings
        if (needed := self.family.tokens(facts, side) * len(self.cameras)) >= limit:
            raise ConfigError(
                f"{len(self.cameras)} pictures of {side} pixels become {needed} tokens; this model reads {limit}. "
                f"Choose a smaller image_size or fewer cameras."
            )
        return side

    def _keep_layers(self) -> None:
        if self.config.layers is None:
            return
        if self.family.two_sided:
            raise ConfigError("layers: an encoder-decoder such as Florence-2 cannot be cut; leave layers=None.")
        available = len(self.language.layers)
        if self.config.layers > available:
            raise ConfigError(f"{self.config.model} has {available} language layers, got layers={self.config.layers}.")
        self.language.layers = self.language.layers[: self.config.layers]

    def _add_adapters(self) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        rank = self.config.lora_rank
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"), self.language)


def _additive(sees: Bool[Tensor, "b 1 s ts"], dtype: torch.dtype) -> Float[Tensor, "b 1 s ts"]:
    """What every attention implementation of transformers understands: 0 where it may look, else the lowest number."""
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill(~sees, torch.finfo(dtype).min)


def _keys_values(cache: DynamicCache) -> tuple[tuple[Tensor, Tensor], ...]:
    layers: Any = cache.layers
    return tuple((layer.keys, layer.values) for layer in layers)


def _all_layers(read: Reading) -> tuple[tuple[Tensor, Tensor], ...]:
    """Keys and values of everything read; an encoder-decoder keeps those of the tokens that came after apart."""
    if not read.said:
        return read.layers
    pairs = zip(read.layers, read.said, strict=True)
    return tuple((torch.cat([a[0], b[0]], dim=2), torch.cat([a[1], b[1]], dim=2)) for a, b in pairs)


def _find(model: str) -> tuple[Any, Tokenizer]:
    """The model's config and tokenizer, from a folder or the hub."""
    try:
        facts = AutoConfig.from_pretrained(model, trust_remote_code=False)
        found = cached_file(model, "tokenizer.json")
        assert found is not None  # it raises where the file is missing
        return facts, Tokenizer.from_file(found)
    except (OSError, ValueError) as error:
        where = "that folder" if Path(model).is_dir() else "the hub, and no such folder is here"
        raise ConfigError(f"Cannot load {model!r} from {where}: {str(error).splitlines()[0]}") from error


def _restore(assets: Mapping[str, bytes]) -> tuple[Any, Tokenizer]:
    for name in (CONFIG_FILE, TOKENIZER_FILE):
        if name not in assets:
            raise ConfigError(f"A saved Hugging Face backbone brings {name} among its assets; got {sorted(assets)}.")
    values = json.loads(assets[CONFIG_FILE])
    return AutoConfig.for_model(**values), Tokenizer.from_str(assets[TOKENIZER_FILE].decode())


def _load(config: HuggingFace.Config, facts: Any) -> PreTrainedModel:
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # its report names the language head, which is left out on purpose
    try:
        model, report = AutoModel.from_pretrained(
            config.model, config=facts, dtype=DTYPES[config.precision], use_safetensors=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(f"Cannot load the weights of {config.model!r}: {str(error).splitlines()[0]}") from error
    finally:
        logging.set_verbosity(before)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ConfigError(f"{config.model!r} lacks {len(missing)} of the model's weights, such as {missing[0]!r}.")
    return model


def _aliases(module: nn.Module) -> dict[str, str]:
    """Names of tied weights -> the one name under which they are saved; safetensors keeps no weight twice."""
    first = {id(value): name for name, value in module.named_parameters()}
    return {
        name: first[id(value)]
        for name, value in module.named_parameters(remove_duplicate=False)
        if first[id(value)] != name
    }


def _drop_tied(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    for name in _aliases(module):
        state.pop(prefix + name, None)


def _restore_tied(module: nn.Module, state: dict[str, Tensor], prefix: str, *arguments: Any) -> None:
    for name, saved in _aliases(module).items():
        if prefix + saved in state:
            state.setdefault(prefix + name, state[prefix + saved])
