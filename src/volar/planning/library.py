"""A library of chunks that successful episodes carried out, as k-medoids in one normalised space (VLAPS, 2508.12211).

Everything that is compared with a chunk of the library goes through `ChunkLibrary.normalise`: the published code mixed
raw with normalised numbers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from volar.core.errors import ConfigError
from volar.core.robot import Episode

LOW, HIGH = 0.01, 0.99  # quantiles of each action dimension that become -1 and 1


@dataclass(frozen=True, kw_only=True)
class ChunkLibrary:
    """chunks: in the robot's units. low, high: per dimension, what becomes -1 and 1 in the normalised space in which
    distances are measured; nothing is clipped there."""

    chunks: Float32[np.ndarray, "n h a"]
    low: Float64[np.ndarray, " a"]
    high: Float64[np.ndarray, " a"]

    def __post_init__(self) -> None:
        if len(self.chunks) == 0:
            raise ConfigError("A chunk library holds at least one chunk.")
        if not (self.high > self.low).all():
            raise ConfigError(f"A chunk library needs low < high in every dimension, got {self.low} and {self.high}.")

    def normalise(self, chunks: Float[np.ndarray, "*n h a"]) -> Float64[np.ndarray, "*n h a"]:
        return 2 * (chunks - self.low) / (self.high - self.low) - 1

    def distances(self, chunk: Float32[np.ndarray, "h a"]) -> Float64[np.ndarray, " n"]:
        """L2 in the normalised space, over the steps that both have. ConfigError for another robot's chunk."""
        if chunk.shape[1] != len(self.low):
            raise ConfigError(
                f"The chunk library is of {len(self.low)} action dimensions, the chunk of {chunk.shape[1]}."
            )
        steps = min(len(chunk), self.chunks.shape[1])
        apart = self.normalise(self.chunks[:, :steps]) - self.normalise(chunk[:steps])
        return np.sqrt((apart**2).sum((1, 2)))

    def save(self, path: Path) -> None:
        np.savez_compressed(path, chunks=self.chunks, low=self.low, high=self.high)

    @classmethod
    def load(cls, path: Path) -> "ChunkLibrary":
        """ConfigError where there is none."""
        try:
            with np.load(path, allow_pickle=False) as content:
                return cls(chunks=content["chunks"], low=content["low"], high=content["high"])
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"{path} is no chunk library ({error}); `ChunkLibrary.save` writes one.") from error


def chunks_of(episodes: Iterable[Episode], *, horizon: int, stride: int | None = None) -> Float32[np.ndarray, "n h a"]:
    """Every `stride` steps (None: the horizon, so without overlap) the next `horizon` executed actions of each
    successful episode that was recorded with its trajectory. ConfigError when no episode has one that long."""
    if horizon < 1 or (stride is not None and stride < 1):
        raise ConfigError(f"Chunks have a horizon and a stride of at least 1, got {horizon} and {stride}.")
    windows = [
        episode.trajectory.executed[start : start + horizon]
        for episode in episodes
        if episode.success and episode.trajectory is not None
        for start in range(0, len(episode.trajectory.executed) - horizon + 1, stride or horizon)
    ]
    if not windows:
        raise ConfigError(f"No successful episode with a trajectory of at least {horizon} steps was given.")
    return np.stack(windows)


def fit_library(chunks: Float32[np.ndarray, "n h a"], *, size: int, seed: int) -> ChunkLibrary:
    """The `size` medoids of `chunks` (all distinct ones, where there are fewer)."""
    if size < 1 or not np.isfinite(chunks).all():
        raise ConfigError(f"A chunk library has a size of at least 1 and finite chunks, got size {size}.")
    flat = chunks.reshape(-1, chunks.shape[2]).astype(np.float64)
    low, high = np.quantile(flat, [LOW, HIGH], axis=0)
    # A dimension that hardly ever moves keeps its own unit instead of being blown up.
    narrow = high - low < 1e-6
    low, high = np.where(narrow, low - 1, low), np.where(narrow, low + 1, high)
    distinct = np.unique(chunks, axis=0)
    library = ChunkLibrary(chunks=distinct, low=low, high=high)
    points = library.normalise(distinct).reshape(len(distinct), -1)
    chosen = k_medoids(points, min(size, len(distinct)), seed=seed)
    return ChunkLibrary(chunks=distinct[chosen], low=low, high=high)


def k_medoids(
    points: Float64[np.ndarray, "n d"], k: int, *, seed: int, iterations: int = 100
) -> Int64[np.ndarray, " k"]:
    """Rows of `points` that are the medoids of k clusters (alternating, after k-means++ seeding; L2). Ascending.

    Memory is one cluster's distance matrix; a local optimum, as with every such method.
    """
    if not 1 <= k <= len(points):
        raise ConfigError(f"k-medoids of {len(points)} points need 1 <= k <= {len(points)}, got {k}.")
    medoids = _spread(points, k, np.random.default_rng(seed))
    for _ in range(iterations):
        nearest = _distances(points, points[medoids]).argmin(1)
        moved = medoids.copy()
        for cluster in range(k):
            members = np.flatnonzero(nearest == cluster)
            if len(members):
                # Rounded, so that of equals (every cluster of two) the first is taken and not rounding's favourite.
                apart = _distances(points[members], points[members]).sum(1).round(6)
                moved[cluster] = members[apart.argmin()]
        if np.array_equal(np.sort(moved), np.sort(medoids)):
            break
        medoids = moved
    return np.sort(medoids)


def _spread(points: np.ndarray, k: int, random: np.random.Generator) -> np.ndarray:
    """k-means++: each next centre is drawn with its squared distance to those before."""
    chosen = [int(random.integers(len(points)))]
    nearest = _distances(points, points[chosen])[:, 0] ** 2
    while len(chosen) < k:
        total = nearest.sum()
        free = np.setdiff1d(np.arange(len(points)), chosen)
        following = int(random.choice(len(points), p=nearest / total)) if total > 0 else int(free[0])
        chosen.append(following)
        nearest = np.minimum(nearest, _distances(points, points[[following]])[:, 0] ** 2)
    return np.array(chosen, dtype=np.int64)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    squared = (first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T
    return np.sqrt(np.maximum(squared, 0.0))
