"""Samples for imitation: what was seen at one moment, and the actions from that moment on.

Pictures are read for the observed moment only, never for the rows of the action chunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped, UInt8

from volar.core.errors import ConfigError
from volar.core.thoughts import Thought
from volar.data import layout
from volar.data.dataset import Dataset, require_feature
from volar.data.thoughts import read_thoughts


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """A batch in raw units. images: camera -> pictures; features: camera -> stored features of the same moment.

    actions[:, 0] belongs to the observed moment; past the end of the episode the last action is repeated and
    `valid` is False. episode: index of the episode; frame: row within it. part: of a mixture, whose each row is.
    thoughts: the labels of the observed moment, where they were asked for.
    """

    images: Mapping[str, UInt8[np.ndarray, "b _ _ 3"]]
    features: Mapping[str, Shaped[np.ndarray, "b ..."]]
    proprioception: Float32[np.ndarray, "b p"]
    actions: Float32[np.ndarray, "b h a"]
    valid: Bool[np.ndarray, "b h"]
    instructions: tuple[str, ...]
    episode: Int64[np.ndarray, " b"]
    frame: Int64[np.ndarray, " b"]
    part: Int64[np.ndarray, " b"] | None = None
    thoughts: tuple[Thought, ...] = ()


def selected_frames(dataset: Dataset, stride: int) -> Int64[np.ndarray, " n"]:
    """Rows of every stride-th frame of every episode, its first included. This is what stored features hold."""
    if stride < 1:
        raise ConfigError(f"stride must be at least 1, got {stride}.")
    bounds = dataset.episodes.bounds
    counts = -(-np.diff(bounds) // stride)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(bounds[:-1], counts) + stride * within


@dataclass(frozen=True)
class _Mapped:
    """Where a memory-mapped array lies."""

    path: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: np.memmap) -> "_Mapped":
        return cls(str(array.filename), array.dtype, array.offset, array.shape)

    def open(self) -> np.memmap:
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


class Windows:
    """Map-style dataset for `torch.utils.data.DataLoader`; index i is the i-th selected frame of `episodes`.

    horizon: actions per window. images: read pictures of `cameras`. features: camera -> rows for
    `selected_frames(dataset, stride)`, in that order. thoughts: read labels. A data set without proprioception gives
    width 0.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        horizon: int,
        cameras: Sequence[str],
        episodes: Sequence[int],
        stride: int = 1,
        images: bool,
        features: Mapping[str, Shaped[np.ndarray, "n ..."]] | None,
        thoughts: bool = False,
    ) -> None:
        if horizon < 1:
            raise ConfigError(f"horizon must be at least 1 action, got {horizon}.")
        require_feature(dataset, layout.ACTION)
        unknown = sorted(set(episodes) - set(range(len(dataset.episodes))))
        if unknown:
            raise ConfigError(f"{dataset.root} has episodes 0 to {len(dataset.episodes) - 1}, asked for {unknown}.")
        for camera in cameras:
            dataset.require_camera(camera)
        self.dataset, self.horizon, self.cameras, self.images = dataset, horizon, tuple(cameras), images
        self.thoughts = thoughts
        self.features = dict(features or {})
        if stride < 1:
            raise ConfigError(f"stride must be at least 1, got {stride}.")
        # Per episode, not per row: a list of all rows of a large data set would not fit into memory.
        self.stride, self._bounds = stride, dataset.episodes.bounds
        self._stored = np.concatenate([[0], np.cumsum(-(-np.diff(self._bounds) // stride))])
        for camera, values in self.features.items():
            if len(values) != self._stored[-1]:
                raise ConfigError(
                    f"Features of camera {camera!r} have {len(values)} rows, stride {stride} of {dataset.root} has "
                    f"{self._stored[-1]}; compute them with the same stride."
                )
        self._episodes = np.unique(np.asarray(episodes, dtype=np.int64))
        self._starts = np.concatenate([[0], np.cumsum(np.diff(self._stored)[self._episodes])])

    def __getstate__(self) -> dict[str, Any]:
        """Stored features travel to a worker as the place of their file, not as gigabytes."""
        features = {name: _Mapped.of(v) if isinstance(v, np.memmap) else v for name, v in self.features.items()}
        return self.__dict__ | {"features": features}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.features = {name: v.open() if isinstance(v, _Mapped) else v for name, v in self.features.items()}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def starts(self) -> Int64[np.ndarray, " e1"]:
        """Index of every episode's first window, the episodes in ascending order; then the number of windows."""
        return self._starts

    def __getitem__(self, index: int) -> WindowBatch:
        """A batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> WindowBatch:
        """All of a batch at once; give the DataLoader a `collate_fn` that returns its argument."""
        chosen = np.asarray(indices, dtype=np.int64)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"Windows {chosen.min()} to {chosen.max()} asked of {len(self)}.")
        place = np.searchsorted(self._starts, chosen, side="right") - 1
        episodes, nth = self._episodes[place], chosen - self._starts[place]
        rows = self._bounds[episodes] + nth * self.stride
        ahead, stops = rows[:, None] + np.arange(self.horizon), self._bounds[episodes + 1][:, None]
        data, stored = self.dataset, self._stored[episodes] + nth
        state = data.rows(layout.STATE, rows) if layout.STATE in data.features else np.empty((len(rows), 0))
        return WindowBatch(
            images={camera: data.frames(camera, rows) for camera in self.cameras} if self.images else {},
            features={name: np.asarray(values[stored]) for name, values in self.features.items()},
            proprioception=state.astype(np.float32, copy=False),
            actions=data.rows(layout.ACTION, np.minimum(ahead, stops - 1)).astype(np.float32, copy=False),
            valid=ahead < stops,
            instructions=tuple(data.tasks[task] for task in data.rows("task_index", rows).tolist()),
            episode=episodes,
            frame=nth * self.stride,
            thoughts=read_thoughts(data, rows) if self.thoughts else (),
        )


@dataclass(frozen=True, kw_only=True)
class Split:
    """Episode indices, ascending, without overlap."""

    train: tuple[int, ...]
    validation: tuple[int, ...]


def split_episodes(dataset: Dataset, validation_fraction: float, seed: int) -> Split:
    """Hold out that fraction of every task's episodes: at least one of a task with two or more, never all of them."""
    if not 0 <= validation_fraction < 1:
        raise ConfigError(f"The validation fraction must be in [0, 1), got {validation_fraction}.")
    by_task: dict[tuple[str, ...], list[int]] = {}
    for episode in range(len(dataset.episodes)):
        by_task.setdefault(dataset.episodes.tasks_of(episode), []).append(episode)
    generator = np.random.default_rng(seed)
    held: list[int] = []
    for task in sorted(by_task):
        order = generator.permutation(by_task[task]).tolist()
        wanted = round(validation_fraction * len(order))
        if validation_fraction > 0:
            wanted = min(max(wanted, 1), len(order) - 1)
        held += order[:wanted]
    train = np.setdiff1d(np.arange(len(dataset.episodes)), held)
    return Split(train=tuple(train.tolist()), validation=tuple(sorted(held)))
