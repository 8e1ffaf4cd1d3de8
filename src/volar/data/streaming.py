"""Statistics of rows that never lie in memory together: one pass, bounded memory, mergeable, no randomness.

Moments by Chan, Golub and LeVeque (1979); quantiles by the deterministic buffers of Munro and Paterson (1980), whose
rank error is counted while it arises and stated. Not for rows in memory: `normalize.exact_statistics` is exact there.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float64, Shaped

from volar.core.errors import ConfigError
from volar.data.normalize import Statistics, require_finite

BUFFER: Final = 2048  # values per dimension and level; the rank error is at most log2(rows / BUFFER) / (4 BUFFER)


class QuantileSketch:
    """Quantiles of `dim` columns within `rank_error`, in any order of the rows; exact up to 2 * BUFFER - 1 rows.

    Level l holds at most one sorted buffer of BUFFER values that stand for 2**l rows each. Two buffers of one level
    are merged and every other value kept, the first or the second of each pair in turn: that moves the rank of any
    number by at most 2**l, upwards and downwards in turn.
    """

    def __init__(self, dim: int) -> None:
        self.dim, self.count = dim, 0
        self._loose = np.empty((0, dim))  # rows that do not fill a buffer yet
        self._levels: list[np.ndarray | None] = []  # [d BUFFER]
        self._keep_second: list[bool] = []  # which half the next merge of a level keeps
        self._raised = self._lowered = 0  # rows by which a rank may have been moved up and down

    @property
    def rank_error(self) -> float:
        """An answer to quantile q lies between the true quantiles q - rank_error and q + rank_error, for certain."""
        return max(self._raised, self._lowered) / max(self.count, 1)

    def update(self, values: Shaped[np.ndarray, "n d"]) -> None:
        """Take in rows; numbers must be finite."""
        self.count += len(values)
        rows = np.concatenate([self._loose, values]) if len(self._loose) else values
        full = len(rows) // BUFFER
        for start in range(0, full * BUFFER, BUFFER):
            self._push(np.sort(np.ascontiguousarray(rows[start : start + BUFFER].T), axis=1), level=0)
        self._loose = rows[full * BUFFER :].copy()

    def merge(self, other: "QuantileSketch") -> None:
        """Take in all that `other` has seen; the bounds add up."""
        loose, levels = other._loose, list(other._levels)
        self.count += other.count - len(loose)
        self._raised += other._raised
        self._lowered += other._lowered
        for level, buffer in enumerate(levels):
            if buffer is not None:
                self._push(buffer, level)
        self.update(loose)

    def quantiles(self, probabilities: Sequence[float]) -> Float64[np.ndarray, "q d"]:
        """Linear interpolation as in `np.quantile` while every row is held, else a value that did occur."""
        if not self.count:
            raise ConfigError("Quantiles of no rows are undefined.")
        held = [(2**level, buffer) for level, buffer in enumerate(self._levels) if buffer is not None]
        values = np.concatenate([self._loose.T, *(buffer for _, buffer in held)], axis=1).astype(np.float64)
        if values.shape[1] == self.count:
            return np.quantile(values, list(probabilities), axis=1)
        weights = np.repeat([1, *(weight for weight, _ in held)], [len(self._loose), *(BUFFER for _ in held)])
        order = np.argsort(values, axis=1)
        ranks = np.cumsum(weights[order], axis=1)
        wanted = np.asarray(probabilities) * self.count
        places = np.stack([np.searchsorted(row, wanted) for row in ranks]).clip(max=values.shape[1] - 1)
        return np.take_along_axis(np.take_along_axis(values, order, axis=1), places, axis=1).T

    def _push(self, buffer: np.ndarray, level: int) -> None:
        while True:
            while len(self._levels) <= level:
                self._levels.append(None)
                self._keep_second.append(False)
            present = self._levels[level]
            if present is None:
                self._levels[level] = buffer
                return
            second = self._keep_second[level]
            buffer = np.sort(np.concatenate([present, buffer], axis=1), axis=1)[:, int(second) :: 2]
            if second:
                self._lowered += 2**level
            else:
                self._raised += 2**level
            self._levels[level], self._keep_second[level] = None, not second
            level += 1


class StreamingStatistics:
    """Everything `Statistics` needs, and any quantile, of rows [n dim] that come in parts.

    count, minimum and maximum are exact, mean and std too but for rounding, quantiles within `rank_error`.
    """

    def __init__(self, dim: int) -> None:
        self.sketch = QuantileSketch(dim)
        self.mean = np.zeros(dim)
        self._squares = np.zeros(dim)  # sum of squared deviations from the mean
        self.min, self.max = np.full(dim, np.inf), np.full(dim, -np.inf)

    @property
    def count(self) -> int:
        return self.sketch.count

    @property
    def std(self) -> Float64[np.ndarray, " d"]:
        """The population's, as everywhere in volar."""
        return np.sqrt(self._squares / max(self.count, 1))

    @property
    def rank_error(self) -> float:
        return self.sketch.rank_error

    @property
    def degenerate(self) -> tuple[int, ...]:
        """Dimensions that never varied: nothing can be learnt or normalised there."""
        return tuple(np.flatnonzero(self.min == self.max).tolist())

    def update(self, values: Shaped[np.ndarray, "n d"]) -> None:
        """Take in rows. Raises ConfigError for another width or a number that is not finite."""
        if values.ndim != 2 or values.shape[1] != self.sketch.dim:
            raise ConfigError(f"These statistics are of {self.sketch.dim} dimensions, the rows are {values.shape}.")
        if not len(values):
            return
        rows = values if values.dtype == np.float32 else values.astype(np.float64)
        require_finite(rows, "StreamingStatistics")
        mean = rows.mean(0, dtype=np.float64)
        self._add_moments(len(rows), mean, np.square(rows - mean).sum(0))
        self.min, self.max = np.minimum(self.min, rows.min(0)), np.maximum(self.max, rows.max(0))
        self.sketch.update(rows)

    def merge(self, other: "StreamingStatistics") -> None:
        """Take in all that `other` has seen, from another worker or another data set."""
        if other.sketch.dim != self.sketch.dim:
            raise ConfigError(f"Cannot merge statistics of {other.sketch.dim} into {self.sketch.dim} dimensions.")
        if other.count:
            self._add_moments(other.count, other.mean, other._squares)
            self.min, self.max = np.minimum(self.min, other.min), np.maximum(self.max, other.max)
            self.sketch.merge(other.sketch)

    def statistics(self) -> Statistics:
        """Raises ConfigError before the first row."""
        q01, q99 = self.sketch.quantiles([0.01, 0.99])
        return Statistics(
            count=self.count, mean=self.mean.copy(), std=self.std, min=self.min.copy(), max=self.max.copy(),
            q01=q01, q99=q99,
        )  # fmt: skip

    def _add_moments(self, count: int, mean: np.ndarray, squares: np.ndarray) -> None:
        """To be called before the sketch has counted the new rows."""
        total = self.count + count
        distance = mean - self.mean
        self.mean = self.mean + distance * (count / total)
        self._squares = self._squares + squares + distance**2 * (self.count * count / total)
