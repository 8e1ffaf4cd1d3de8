"""Statistics of every number of a data set, read once in blocks; for people and for LeRobot's stats.json.

Quantiles are exact while a feature fits into memory, otherwise within a stated rank error.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float64

from volar.core.errors import ConfigError
from volar.core.progress import counting
from volar.data import layout
from volar.data.dataset import Dataset
from volar.data.streaming import StreamingStatistics
from volar.data.summaries import QUANTILES, SAMPLED_PICTURES, pixel_counts, summarize_pixels

EXACT_BYTES: Final = 2**29  # of one feature in memory; larger ones get quantiles from a sketch
LEAST_ROWS: Final = 4096  # that are read together


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One feature. quantiles [q d] for the probabilities that were asked for, each a true quantile of a probability at
    most `rank_error` away. degenerate: dimensions that never vary."""

    count: int
    mean: Float64[np.ndarray, " d"]
    std: Float64[np.ndarray, " d"]
    min: Float64[np.ndarray, " d"]
    max: Float64[np.ndarray, " d"]
    quantiles: Float64[np.ndarray, "q d"]
    rank_error: float
    degenerate: tuple[int, ...]


def measure(
    dataset: Dataset, probabilities: Sequence[float], *, progress: bool, bookkeeping: bool = False
) -> dict[str, Measured]:
    """Numeric feature -> what it is like; a lazily opened data set is never held in memory as a whole.

    probabilities: of the quantiles, from 0 to 1. progress: show a bar on stderr. bookkeeping: time
    stamps and indices too. Raises ConfigError for a probability outside [0, 1], or damaged files.
    """
    if wrong := [probability for probability in probabilities if not 0 <= probability <= 1]:
        raise ConfigError(f"A quantile is given as a probability from 0 to 1, such as 0.01 for 1 %; got {wrong[0]}.")
    streaming: dict[str, StreamingStatistics] = {}
    held: dict[str, list[np.ndarray]] = {}
    with counting("reading numbers", len(dataset.episodes), shown=progress) as done:
        for block in blocks(dataset):
            for name, values in dataset.numbers(block).items():
                if name in layout.BOOKKEEPING and not bookkeeping:
                    continue
                rows = values.reshape(len(values), -1)
                streaming.setdefault(name, StreamingStatistics(rows.shape[1])).update(rows)
                if 8 * dataset.num_frames * rows.shape[1] <= EXACT_BYTES:
                    held.setdefault(name, []).append(rows)
            done(len(block))
    return {name: _measured(one, held.get(name), list(probabilities)) for name, one in streaming.items()}


def _measured(found: StreamingStatistics, rows: list[np.ndarray] | None, probabilities: list[float]) -> Measured:
    exact = None if rows is None else np.concatenate(rows).astype(np.float64)
    return Measured(
        count=found.count, mean=found.mean, std=found.std, min=found.min, max=found.max,
        quantiles=found.sketch.quantiles(probabilities) if exact is None else np.quantile(exact, probabilities, axis=0),
        rank_error=found.rank_error if exact is None else 0.0, degenerate=found.degenerate,
    )  # fmt: skip


def blocks(dataset: Dataset) -> Iterator[range]:
    """Runs of whole blocks of the source with at least LEAST_ROWS rows, for reading everything once."""
    bounds, start, stop = dataset.episodes.bounds, 0, 0
    while stop < len(dataset.episodes):
        stop = dataset.source.block(stop).stop
        if bounds[stop] - bounds[start] >= LEAST_ROWS or stop == len(dataset.episodes):
            yield range(start, stop)
            start = stop


def lerobot_statistics(dataset: Dataset, *, progress: bool) -> dict[str, dict[str, Any]]:
    """The content of stats.json: ten numbers per dimension of every number and channel of every camera.

    Numbers come from all rows, pictures from 32 of every episode, as lerobot does.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, one in measure(dataset, list(QUANTILES.values()), progress=progress, bookkeeping=True).items():
        values = {"min": one.min, "max": one.max, "mean": one.mean, "std": one.std}
        values |= dict(zip(QUANTILES, one.quantiles, strict=True))
        found[name] = {kind: value.tolist() for kind, value in values.items()} | {"count": [one.count]}
    with counting("reading pictures", len(dataset.cameras) * len(dataset.episodes), shown=progress) as done:
        for camera in dataset.cameras:
            counts = np.zeros((3, 256), np.int64)
            for episode in dataset.episodes:
                chosen = np.linspace(episode.start, episode.stop - 1, min(episode.length, SAMPLED_PICTURES)).round()
                counts += pixel_counts(dataset.frames(camera.name, chosen.astype(np.int64), keep=False))
                done(1)
            found[dataset.require_camera(camera.name)] = summarize_pixels(counts, dataset.num_frames)
    return found
