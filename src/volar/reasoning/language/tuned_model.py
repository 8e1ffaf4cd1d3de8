"""A tuned SmolLM2 on disk: the low-rank additions alone, in safetensors, and how they were made. The weights that they
are added to stay where `volar weights install` put them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from volar.backbones.weights import LANGUAGE
from volar.core.atomic import write_files
from volar.core.errors import ConfigError
from volar.core.fingerprint import fingerprint
from volar.nn.lora import fold_low_rank
from volar.reasoning.language.text_network import Smol, load_smol

FILE, TENSORS, STATE = "tuned.json", "additions.safetensors", "unfinished.safetensors"


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """facts: what `save_tuned` was told, and by which code."""

    network: Smol
    facts: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """A tuning that was interrupted after so many steps. state: the trainer's. config: of the tuning."""

    step: int
    state: Mapping[str, Tensor]
    config: Mapping[str, Any]


def save_tuned(
    folder: Path,
    additions: Mapping[str, Tensor],
    *,
    step: int,
    state: Mapping[str, Tensor] | None = None,
    **facts: Any,
) -> None:
    """state: of the trainer, to go on from; None once the tuning is finished."""
    told = {"base": LANGUAGE.name, "base_hash": LANGUAGE.member_hash, "step": step, **facts, **fingerprint()}
    files = {folder / TENSORS: _stored(additions, {})}
    if state is not None:
        files[folder / STATE] = _stored(state, {"step": str(step)})
    write_files({**files, folder / FILE: json.dumps(told, indent=1).encode()})
    if state is None:
        (folder / STATE).unlink(missing_ok=True)


def _stored(tensors: Mapping[str, Tensor], told: dict[str, str]) -> bytes:
    return safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()}, metadata=told)


def read_unfinished(folder: Path) -> Unfinished | None:
    """None where nothing is begun or all is finished. Raises ConfigError for a damaged folder."""
    if not (folder / STATE).exists():
        return None
    try:
        config = json.loads((folder / FILE).read_text())["config"]
        with safe_open(folder / STATE, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
            return Unfinished(step=int(file.metadata()["step"]), state=state, config=config)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ConfigError(f"{folder} holds no tuning that can go on: {error}") from error


def is_tuned(folder: Path) -> bool:
    return (folder / FILE).is_file()


def load_tuned(folder: Path) -> Tuned:
    """Raises ConfigError for a damaged folder, and for additions to other weights."""
    facts, tensors = _read(folder)
    network = load_smol()
    fold_low_rank(network.model, tensors)
    return Tuned(network=network, facts=facts)


def load_additions(folder: Path) -> dict[str, Tensor]:
    """Raises ConfigError as `load_tuned` does."""
    return _read(folder)[1]


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        facts = json.loads((folder / FILE).read_text())
        tensors = safetensors.torch.load_file(folder / TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(f"{folder} holds no whole tuned model: {error}") from error
    if facts.get("base_hash") != LANGUAGE.member_hash:
        raise ConfigError(f"{folder} adds to {facts.get('base')!r} of another version than {LANGUAGE.requirement}.")
    return facts, tensors
