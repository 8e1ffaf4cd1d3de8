"""Several data sets as one to learn from, and how often each is drawn. Same cameras; same actions, or padded ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64

from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.dataset import Dataset
from volar.data.normalize import Statistics, exact_statistics, padded
from volar.data.shuffle import shuffled
from volar.data.windows import WindowBatch, Windows

PADDED: Final = (layout.ACTION, layout.STATE)


class Mixture:
    """Map-style, as `Windows` is: the windows of all parts one after the other; `part` of a batch says whose each is.

    pad: actions and proprioception that are narrower than another part's are continued with zeros. Raises ConfigError
    where parts cannot stand in one batch, naming every difference.
    """

    def __init__(self, parts: Mapping[str, Windows], *, pad: bool = False) -> None:
        self.parts = dict(parts)
        self._windows = tuple(self.parts.values())
        shapes = {name: _shape(windows) for name, windows in parts.items()}
        self._widths = {name: max(_width(part.dataset, name) for part in self._windows) for name in PADDED}
        (first, expected), *others = shapes.items()
        different = [
            f"{key}: {value} in {name}, {expected[key]} in {first}"
            for name, shape in others
            for key, value in shape.items()
            if value != expected[key] and not (pad and key in PADDED)
        ]
        if different:
            raise ConfigError("These data sets cannot be mixed:\n  " + "\n  ".join(different))
        self.bounds: Int64[np.ndarray, " p1"] = np.cumsum([0, *map(len, self._windows)])

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def __getitem__(self, index: int) -> WindowBatch:
        """A batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> WindowBatch:
        chosen = np.asarray(indices, dtype=np.int64)
        part = np.searchsorted(self.bounds, chosen, side="right") - 1
        places = [np.flatnonzero(part == index) for index in range(len(self._windows))]
        read = [
            (place, self._padded(windows.__getitems__((chosen[place] - start).tolist())))
            for place, windows, start in zip(places, self._windows, self.bounds, strict=False)
            if len(place)
        ]

        def joined(values: Callable[[WindowBatch], np.ndarray]) -> np.ndarray:
            parts = [values(batch) for _, batch in read]
            out = np.empty((len(chosen), *parts[0].shape[1:]), parts[0].dtype)
            for (place, _), found in zip(read, parts, strict=True):
                out[place] = found
            return out

        some = read[0][1]
        return WindowBatch(
            images={name: joined(lambda batch, name=name: batch.images[name]) for name in some.images},
            features={name: joined(lambda batch, name=name: batch.features[name]) for name in some.features},
            proprioception=joined(lambda batch: batch.proprioception),
            actions=joined(lambda batch: batch.actions),
            valid=joined(lambda batch: batch.valid),
            instructions=tuple(joined(lambda batch: _objects(batch.instructions)).tolist()),
            episode=joined(lambda batch: batch.episode),
            frame=joined(lambda batch: batch.frame),
            part=part,
            thoughts=tuple(joined(lambda batch: _objects(batch.thoughts)).tolist()) if some.thoughts else (),
        )

    def _padded(self, batch: WindowBatch) -> WindowBatch:
        actions, state = self._widths[layout.ACTION], self._widths[layout.STATE]
        return replace(
            batch, actions=padded(batch.actions, actions), proprioception=padded(batch.proprioception, state)
        )


def _objects(values: Sequence[object]) -> np.ndarray:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _width(dataset: Dataset, name: str) -> int:
    return int(dataset.features[name]["shape"][-1]) if name in dataset.features else 0


def _shape(windows: Windows) -> dict[str, object]:
    """What must be equal for two windows to stand in one batch."""
    dataset = windows.dataset
    widths = {name: dataset.features[name]["shape"] if name in dataset.features else None for name in PADDED}
    cameras = {camera.name: (camera.height, camera.width) for camera in dataset.cameras}
    seen = {name: cameras[name] for name in windows.cameras}
    stored = {name: values.shape[1:] for name, values in windows.features.items()}
    return {**widths, "horizon": windows.horizon, "cameras": seen if windows.images else {}, "features": stored}


@dataclass(frozen=True)
class Draws:
    """Which windows stand in which batch when parts are drawn by weight: a function of (seed, number of the batch).

    sizes: windows of each part. shares: of each part in every batch, summing to 1. A part is gone through in a random
    order, and in another one when it is through; nothing of the size of the data is held.
    """

    sizes: tuple[int, ...]
    shares: tuple[float, ...]
    batch: int
    seed: int

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.sizes):
            raise ConfigError(f"{len(self.sizes)} data sets need as many weights, got {list(self.shares)}.")
        if not all(0 < share < np.inf for share in self.shares):
            raise ConfigError(f"The weights of a mixture must be positive, got {list(self.shares)}.")
        if min(self.sizes) < 1:
            raise ConfigError(f"A part of the mixture has no window to draw; the sizes are {list(self.sizes)}.")

    def indices(self, number: int) -> Int64[np.ndarray, " b"]:
        """Batch `number` as indices of a `Mixture` of the same parts."""
        starts = np.cumsum([0, *self.sizes])
        before, after = self._taken(number * self.batch), self._taken((number + 1) * self.batch)
        chosen = []
        for part, size in enumerate(self.sizes):
            rounds, places = np.divmod(np.arange(before[part], after[part]), size)
            for round_ in np.unique(rounds):
                found = shuffled(places[rounds == round_], size, seed=(self.seed, part, int(round_)))
                chosen.append(starts[part] + found)
        return np.concatenate(chosen)

    def _taken(self, count: int) -> list[int]:
        """How many of the first `count` draws fell on each part: the first part against the rest, the second against
        what is left, and so on, each rounded, so that no part ever gives back what it has given."""
        taken, left = [], count
        for part in range(len(self.sizes) - 1):
            share = self.shares[part] / sum(self.shares[part:])
            taken.append(int(np.floor(left * share + 0.5)))
            left -= taken[-1]
        return [*taken, left]


@dataclass(frozen=True, eq=False)
class EpisodeDraws:
    """The same for one data set whose episodes weigh differently: a window is drawn in proportion to the weight of its
    episode, so that equal weights draw all windows alike.

    starts: see `Windows.starts`. weights: of every episode. With replacement, but spread over each batch: its i-th
    draw falls into the i-th of `batch` stretches of equal weight.
    """

    starts: Int64[np.ndarray, " e1"]
    weights: Float64[np.ndarray, " e"]
    batch: int
    seed: int

    def indices(self, number: int) -> Int64[np.ndarray, " b"]:
        """Batch `number` as indices of the windows."""
        counts = np.diff(self.starts)
        bounds = np.concatenate([[0.0], np.cumsum(counts * self.weights)])
        within = np.random.default_rng((self.seed, number)).random(self.batch)
        points = (np.arange(self.batch) + within) / self.batch * bounds[-1]
        # Rounding may bring a point to the very end, behind every episode that may be drawn.
        episodes = np.minimum(np.searchsorted(bounds, points, side="right") - 1, np.flatnonzero(self.weights)[-1])
        nth = ((points - bounds[episodes]) / self.weights[episodes]).astype(np.int64)
        return self.starts[episodes] + np.minimum(nth, counts[episodes] - 1)


def part_names(roots: Sequence[str]) -> tuple[str, ...]:
    """The last folder of every root, with as many above it as tell all apart. ConfigError for a root given twice."""
    parts = [PurePath(root).parts for root in roots]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return tuple(names)
    raise ConfigError(f"The same data set is named twice: {list(roots)}.")


def pooled_statistics(columns: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Statistics]:
    """Exact statistics [d] of all parts' rows together; columns: feature -> [n d] of every part."""
    return {
        name: exact_statistics(np.concatenate([part[name].reshape(len(part[name]), -1) for part in columns]))
        for name in columns[0]
    }
