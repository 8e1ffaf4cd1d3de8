"""Sampled pictures of one camera, boiled down while they are read: enough to compare episodes, small enough to keep."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from volar.core.errors import ConfigError
from volar.data.dataset import Dataset

PER_EPISODE: Final = 12  # pictures, evenly spaced
SIDE: Final = 8  # of a thumbnail, in cells
LEVELS: Final = 12  # of 255: by how much a pixel must change to count; compression alone changes less


@dataclass(frozen=True, kw_only=True)
class EpisodeLook:
    """frames: which were looked at, within the episode. thumbnails: mean colours of 8 x 8 cells, 0 to 255.
    changed: share of the pixels that differ from the picture looked at before it (the first: 0). contrast: standard
    deviation over pixels."""

    frames: Int64[np.ndarray, " k"]
    thumbnails: Float32[np.ndarray, "k 8 8 3"]
    changed: Float32[np.ndarray, " k"]
    contrast: Float32[np.ndarray, " k"]


@dataclass(frozen=True, kw_only=True)
class Looks:
    """episodes: by index; an episode whose pictures cannot be read is in `broken` with the reason instead."""

    episodes: dict[int, EpisodeLook]
    broken: dict[int, str]


def look(dataset: Dataset, camera: str, *, every: bool, done: Callable[[int], None]) -> Looks:
    """Read pictures of every episode, all of them or PER_EPISODE; `done` is called with 1 after each episode."""
    looks = Looks(episodes={}, broken={})
    for episode in dataset.episodes:
        count = episode.length if every else min(episode.length, PER_EPISODE)
        rows = np.unique(np.linspace(episode.start, episode.stop - 1, count).round().astype(np.int64))
        try:
            looks.episodes[episode.index] = _boil_down(dataset, camera, rows, episode.start)
        except ConfigError as error:
            looks.broken[episode.index] = str(error)
        done(1)
    return looks


def _boil_down(dataset: Dataset, camera: str, rows: np.ndarray, start: int) -> EpisodeLook:
    thumbnails, changed, contrast = [], [], []
    before = None
    for block in np.array_split(rows, -(-len(rows) // PER_EPISODE)):
        for picture in dataset.frames(camera, block, keep=False):
            thumbnails.append(thumbnail(picture))
            contrast.append(picture.std())
            changed.append(0.0 if before is None else _changed(before, picture))
            before = picture
    return EpisodeLook(
        frames=rows - start, thumbnails=np.stack(thumbnails), changed=np.array(changed, np.float32),
        contrast=np.array(contrast, np.float32),
    )  # fmt: skip


def _changed(before: UInt8[np.ndarray, "h w 3"], after: UInt8[np.ndarray, "h w 3"]) -> float:
    difference = np.maximum(before, after) - np.minimum(before, after)
    return float((difference.max(-1) > LEVELS).mean())


def thumbnail(picture: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "8 8 3"]:
    """Mean colours of the cells of a grid over the picture, at least 8 pixels wide and high."""
    height, width = picture.shape[:2]
    rows, columns = (np.arange(SIDE) * side // SIDE for side in (height, width))
    sums = np.add.reduceat(np.add.reduceat(picture.astype(np.float32), rows, axis=0), columns, axis=1)
    sizes = np.diff(rows, append=height)[:, None] * np.diff(columns, append=width)
    return (sums / sizes[:, :, None]).astype(np.float32)
