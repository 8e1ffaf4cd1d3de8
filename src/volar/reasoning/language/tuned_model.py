"""A tuned SmolLM2 on disk: the low-rank additions alone, in safetensors, and how they were made. The weights that they
are added to stay where `volar weights install` put them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from volar.backbones.weights import LANGUAGE
from volar.core.atomic import write_files
from volar.core.errors import ConfigError
from volar.core.fingerprint import fingerprint
from volar.nn.lora import fold_low_rank
from volar.reasoning.language.text_network import Smol, load_smol

FILE, TENSORS = "tuned.json", "additions.safetensors"


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """facts: what `save_tuned` was told, and by which code."""

    network: Smol
    facts: Mapping[str, Any]


def save_tuned(folder: Path, additions: Mapping[str, Tensor], **facts: Any) -> None:
    told = {"base": LANGUAGE.name, "base_hash": LANGUAGE.member_hash, **facts, **fingerprint()}
    tensors = safetensors.torch.save({name: value.contiguous() for name, value in additions.items()})
    write_files({folder / TENSORS: tensors, folder / FILE: json.dumps(told, indent=1).encode()})


def is_tuned(folder: Path) -> bool:
    return (folder / FILE).is_file()


def load_tuned(folder: Path) -> Tuned:
    """Raises ConfigError for a damaged folder, and for additions to other weights."""
    try:
        facts = json.loads((folder / FILE).read_text())
        tensors = safetensors.torch.load_file(folder / TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(f"{folder} holds no whole tuned model: {error}") from error
    if facts.get("base_hash") != LANGUAGE.member_hash:
        raise ConfigError(f"{folder} adds to {facts.get('base')!r} of another version than {LANGUAGE.requirement}.")
    network = load_smol()
    fold_low_rank(network.model, tensors)
    return Tuned(network=network, facts=facts)
