"""Causal language networks as functions of token ids: SmolLM2 in plain torch, or any transformers folder. The door to
transformers for text. No sampling here; that is `local_model`."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from volar.backbones.weights import LANGUAGE, load_file, load_tensors
from volar.core.errors import ConfigError
from volar.nn.llama import Llama, LlamaShape
from volar.reasoning.language.language_model import Message


@dataclass(frozen=True, kw_only=True)
class Extended:
    """logits: of what follows each of the last ids. past: to be given back, and not to be used twice."""

    logits: Float[Tensor, "s k"]
    past: Any


class TextNetwork(ABC):
    """ends: ids after which nothing comes. name: for records."""

    name: str
    ends: frozenset[int]

    @abstractmethod
    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the messages and of the beginning of an answer, as the model was trained to see them."""

    @abstractmethod
    def ids(self, text: str) -> list[int]: ...

    @abstractmethod
    def text(self, ids: Sequence[int]) -> str: ...

    @abstractmethod
    def extend(self, ids: Sequence[int], past: Any, *, last: int = 1) -> Extended:
        """past: None at the beginning. last: how many of the ids are asked about what follows them."""

    @abstractmethod
    def crop(self, past: Any, length: int) -> Any:
        """Without what came after the first `length` ids."""


class Smol(TextNetwork):
    """Final. SmolLM2-135M-Instruct as `volar weights install` brings it, or a smaller random one of the same kind."""

    def __init__(self, model: Llama, tokenizer: Tokenizer, *, name: str) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        end = tokenizer.token_to_id("<|im_end|>")
        self.ends = frozenset() if end is None else frozenset({end})

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        turns = [f"<|im_start|>{each.role}\n{each.text}<|im_end|>\n" for each in messages]
        return self.ids("".join(turns) + "<|im_start|>assistant\n")

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    def text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids))

    @torch.no_grad()
    def extend(self, ids: Sequence[int], past: Any, *, last: int = 1) -> Extended:
        device = self.model.embedding.weight.device
        states = self.model(self.model.embedding(torch.tensor([list(ids)], device=device)), past=past)
        return Extended(logits=self.model.logits(states.hidden[:, -last:])[0], past=states.layers)

    def crop(self, past: Any, length: int) -> Any:
        return tuple((keys[:, :, :length], values[:, :, :length]) for keys, values in past)


def load_smol() -> Smol:
    """Raises ConfigError that says how to install it."""
    model = Llama(LlamaShape())
    model.load_state_dict(load_tensors(LANGUAGE))
    tokenizer = Tokenizer.from_str(load_file(LANGUAGE, "tokenizer.json").decode())
    return Smol(model, tokenizer, name=LANGUAGE.name)


class Transformers(TextNetwork):
    """Final. A folder in the format of Hugging Face: weights in safetensors, a tokenizer with a chat template. No code
    out of it is run and nothing is downloaded."""

    def __init__(self, folder: Path) -> None:
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError as error:
            raise ConfigError("A model in the format of Hugging Face needs `pip install 'volar[hf]'`.") from error
        told = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **told).eval()
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **told)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{folder} holds no causal language model that can be read: {error}") from error
        if self._tokenizer.chat_template is None:
            raise ConfigError(f"The tokenizer in {folder} has no chat template, so nothing says how to put questions.")
        said = self._model.generation_config.eos_token_id
        self.name, self.ends = folder.name, frozenset([said] if isinstance(said, int) else said or [])

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        turns = [{"role": each.role, "content": each.text} for each in messages]
        return self.ids(self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))

    def ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    @torch.no_grad()
    def extend(self, ids: Sequence[int], past: Any, *, last: int = 1) -> Extended:
        found = self._model(torch.tensor([list(ids)]), past_key_values=past, use_cache=True, logits_to_keep=last)
        return Extended(logits=found.logits[0], past=found.past_key_values)

    def crop(self, past: Any, length: int) -> Any:
        surplus = past.get_seq_length() - length
        if surplus > 0:
            past.crop(-surplus)  # a negative number is what all versions understand alike
        return past


def is_transformers(folder: Path) -> bool:
    try:
        return "model_type" in json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
