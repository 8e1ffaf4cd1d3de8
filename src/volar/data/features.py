"""Outputs of a frozen network for every frame, computed once and kept on disk; training then reads, not computes.

Keyed by what the numbers depend on: the network and its transform (`key`), the data's content, camera and stride.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Shaped, UInt8

from volar.core.atomic import FolderLock, write_files
from volar.core.errors import ConfigError
from volar.core.progress import counting
from volar.data.dataset import Dataset
from volar.data.windows import selected_frames

Compute = Callable[[UInt8[np.ndarray, "b h w 3"]], Shaped[np.ndarray, "b ..."]]
SAVE_EVERY = 16  # batches between two notes of how far we are; what a killed process loses at most


def cached_features(
    dataset: Dataset,
    camera: str,
    *,
    stride: int = 1,
    key: str,
    compute: Compute,
    folder: Path,
    progress: bool,
    batch: int = 32,
) -> Float16[np.ndarray, "n ..."]:
    """Memory-mapped float16 features, row i of frame `selected_frames(dataset, stride)[i]`; computed where missing.

    key: names weights and transform; anything that changes the numbers must change it. compute: pictures of a batch to
    their features. folder: where they are kept; safe to delete. A killed run goes on where it stopped. Raises
    ConfigError if another process is computing the same, or a feature does not fit float16.
    """
    rows = selected_frames(dataset, stride)
    identity = {"key": key, "data": dataset.content_hash(), "camera": camera, "stride": stride}
    place = folder / f"{camera}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]}"
    done = _progress(place)
    if done < len(rows):
        lock = FolderLock(place)
        try:
            _fill(dataset, camera, rows, place, identity, compute, batch=batch, progress=progress)
        finally:
            lock.release()
    return np.load(place / "features.npy", mmap_mode="r")


def _progress(place: Path) -> int:
    """Rows that are certainly on disk."""
    try:
        return json.loads((place / "progress.json").read_text())["done"]
    except FileNotFoundError:
        return 0
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{place / 'progress.json'} is corrupt; delete {place}, it will be computed anew.") from error


def _fill(
    dataset: Dataset, camera: str, rows: np.ndarray, place: Path, identity: dict[str, Any], compute: Compute,
    *, batch: int, progress: bool,
) -> None:  # fmt: skip
    done = _progress(place)
    store = np.lib.format.open_memmap(place / "features.npy", mode="r+") if done else None
    with counting(f"features of {camera}", len(rows), shown=progress, done=done) as advance:
        for count, start in enumerate(range(done, len(rows), batch), start=1):
            chosen = rows[start : start + batch]
            values = _as_half(compute(dataset.frames(camera, chosen, keep=False)), len(chosen))
            if store is None:
                shape = (len(rows), *values.shape[1:])
                store = np.lib.format.open_memmap(place / "features.npy", mode="w+", dtype=np.float16, shape=shape)
            store[start : start + len(chosen)] = values
            end = start + len(chosen)
            if count % SAVE_EVERY == 0 or end == len(rows):
                store.flush()
                write_files({place / "progress.json": json.dumps({"done": end, **identity}, indent=1).encode()})
            advance(len(chosen))


def _as_half(values: np.ndarray, count: int) -> np.ndarray:
    if len(values) != count:
        raise ConfigError(f"compute returned {len(values)} rows of features for {count} pictures.")
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise ConfigError(
            f"Features up to {np.abs(values).max():.3g} do not fit float16 (at most 65504), or are not finite; "
            f"normalise them in compute."
        )
    return half
