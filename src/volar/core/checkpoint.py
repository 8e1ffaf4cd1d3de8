"""A checkpoint is a folder that rebuilds its object with no other file: config.json, stats.json, model.safetensors.

Written beside its final place and renamed when complete, so a killed process leaves either the whole folder or none.
Never pickle. `files` in config.json holds the hash of every other file; a damaged one is named on loading.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from volar.core.atomic import flush
from volar.core.errors import ConfigError

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a folder holds. config and statistics are plain JSON; assets are small files such as a tokenizer."""

    config: Mapping[str, Any]
    statistics: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    assets: Mapping[str, bytes] = field(default_factory=dict)


def file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `folder`, which must not exist yet. Raises ConfigError when it does, OSError when the disk is full."""
    if folder.exists():
        raise ConfigError(f"{folder} exists already; a checkpoint is never overwritten. Choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        save_file(
            {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}, partial / "model.safetensors"
        )
        (partial / "stats.json").write_text(json.dumps(checkpoint.statistics, indent=1))
        for name, data in checkpoint.assets.items():
            (partial / name).write_bytes(data)
        files = {path.name: file_hash(path) for path in sorted(partial.iterdir())}
        config = {"format": FORMAT, **checkpoint.config, "files": files}
        (partial / "config.json").write_text(json.dumps(config, indent=1))
        for path in partial.iterdir():
            flush(path)
        os.rename(partial, folder)
        flush(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_checkpoint(folder: Path, *, device: str = "cpu") -> Checkpoint:
    """Read a folder and prove every file by its hash. Raises ConfigError naming the file that is missing or damaged."""
    config = _read_json(folder / "config.json")
    if config.get("format") != FORMAT:
        raise ConfigError(f"{folder}: checkpoint format {config.get('format')!r}, this volar reads format {FORMAT}.")
    for name, expected in config["files"].items():
        path = folder / name
        if not path.is_file():
            raise ConfigError(f"{path} is missing; the checkpoint was copied incompletely.")
        if file_hash(path) != expected:
            raise ConfigError(f"{path} is damaged: its SHA-256 is not the one that config.json recorded.")
    try:
        tensors = load_file(folder / "model.safetensors", device=device)
    except safetensors.SafetensorError as error:
        raise ConfigError(f"{folder / 'model.safetensors'} cannot be read: {error}") from error
    known = {"stats.json", "model.safetensors"}
    assets = {name: (folder / name).read_bytes() for name in config["files"] if name not in known}
    return Checkpoint(config=config, statistics=_read_json(folder / "stats.json"), tensors=tensors, assets=assets)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path.parent} is no checkpoint: it has no {path.name}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
