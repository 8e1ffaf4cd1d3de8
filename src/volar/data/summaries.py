"""Statistics in the form of LeRobot's stats.json: ten numbers per dimension, images per channel. Exact, not merged.

Pictures are counted into 256 bins per channel, so that episodes add up and their quantiles stay exact.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

QUANTILES: Final = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
SAMPLED_PICTURES: Final = 32  # per episode; lerobot samples too
LARGEST_SIDE: Final = 150  # pixels; larger pictures are counted in strides, as lerobot does

Summary = Mapping[str, Any]


def summarize(values: Shaped[np.ndarray, "n d"]) -> dict[str, Any]:
    """min, max, mean, std (population), count and quantiles of the rows, as plain lists."""
    exact = np.asarray(values, dtype=np.float64)
    summary = {"min": exact.min(0), "max": exact.max(0), "mean": exact.mean(0), "std": exact.std(0)}
    summary |= dict(zip(QUANTILES, np.quantile(exact, list(QUANTILES.values()), axis=0), strict=True))
    return {name: value.tolist() for name, value in summary.items()} | {"count": [len(exact)]}


def summarize_together(columns: Mapping[str, Shaped[np.ndarray, "n _"]]) -> dict[str, dict[str, Any]]:
    """`summarize` of each: side by side, many narrow columns cost little more than one."""
    wide = summarize(np.concatenate([np.asarray(values, dtype=np.float64) for values in columns.values()], axis=1))
    ends = np.cumsum([values.shape[1] for values in columns.values()]).tolist()
    places = zip(columns, [0, *ends], ends, strict=False)
    return {
        key: {name: whole if name == "count" else whole[start:end] for name, whole in wide.items()}
        for key, start, end in places
    }


def sampled_pictures(length: int) -> Int64[np.ndarray, " s"]:
    """Which pictures of an episode are counted: evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, length - 1, min(length, SAMPLED_PICTURES)).round().astype(np.int64))


def pixel_counts(frames: UInt8[np.ndarray, "t h w 3"]) -> Int64[np.ndarray, "3 256"]:
    """How often each brightness occurs in each channel of evenly sampled frames."""
    step = max(1, max(frames.shape[1:3]) // LARGEST_SIDE)
    pixels = frames[sampled_pictures(len(frames)), ::step, ::step].reshape(-1, 3)
    return np.stack([np.bincount(pixels[:, channel], minlength=256) for channel in range(3)])


def summarize_pixels(counts: Int64[np.ndarray, "3 256"], num_pictures: int) -> dict[str, Any]:
    """The same ten numbers in [0, 1] from pixel counts, shaped [3 1 1]; count is that of pictures."""
    levels, total = np.arange(256) / 255, counts.sum(1)
    mean = counts @ levels / total
    variance = (counts * (levels - mean[:, None]) ** 2).sum(1) / total
    present = counts > 0
    summary = {
        "min": levels[present.argmax(1)],
        "max": levels[255 - present[:, ::-1].argmax(1)],
        "mean": mean,
        "std": np.sqrt(variance),
    }
    cumulative = counts.cumsum(1)
    for name, quantile in QUANTILES.items():
        rank = quantile * (total - 1)
        below, fraction = np.floor(rank), rank - np.floor(rank)
        lower = levels[(cumulative > below[:, None]).argmax(1)]
        upper = levels[(cumulative > np.ceil(rank)[:, None]).argmax(1)]
        summary[name] = lower + fraction * (upper - lower)
    return {name: value.reshape(3, 1, 1).tolist() for name, value in summary.items()} | {"count": [num_pictures]}
