"""Sampled pictures of one camera, boiled down while they are read: enough to compare episodes, small enough to keep."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from volar.core.errors import ConfigError
from volar.data.dataset import Dataset

PER_EPISODE: Final = 12  # pictures, evenly spaced
BLOCK: Final = 64  # pictures decoded together
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
    """Look at PER_EPISODE pictures of every episode. every: decode all others too, only to know that they can be.
    `done` is called with 1 after each episode."""
    looks = Looks(episodes={}, broken={})
    for episode in dataset.episodes:
        count = min(episode.length, PER_EPISODE)
        rows = np.linspace(episode.start, episode.stop - 1, count).round().astype(np.int64)
        try:
            looks.episodes[episode.index] = _boil_down(dataset.frames(camera, rows, keep=False), rows - episode.start)
            for start in range(episode.start, episode.stop if every else episode.start, BLOCK):
                dataset.frames(camera, np.arange(start, min(start + BLOCK, episode.stop)), keep=False)
        except ConfigError as problem:
            looks.episodes.pop(episode.index, None)
            looks.broken[episode.index] = str(problem)
        done(1)
    return looks


def _boil_down(pictures: UInt8[np.ndarray, "k h w 3"], frames: Int64[np.ndarray, " k"]) -> EpisodeLook:
    changed = [0.0, *(_changed(before, after) for before, after in pairwise(pictures))]
    return EpisodeLook(
        frames=frames, thumbnails=np.stack([thumbnail(picture) for picture in pictures]),
        changed=np.array(changed, np.float32), contrast=pictures.std((1, 2, 3), dtype=np.float32),
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
