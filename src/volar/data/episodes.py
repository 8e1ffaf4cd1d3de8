"""The table of a data set's episodes, held in arrays: no Python object per episode until somebody asks for it.

So a table of a million episodes is small, quick to send to a worker, and never grows there.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, SupportsIndex, overload

import numpy as np
from jaxtyping import Int

from volar.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class EpisodeRows:
    """Where an episode lies: rows start (inclusive) to stop (exclusive) of the data set.

    source: what its recorder noted (task, seed, success, ...); empty in data sets that volar did not write.
    """

    index: int
    start: int
    stop: int
    tasks: tuple[str, ...]
    source: Mapping[str, Any]

    @property
    def length(self) -> int:
        return self.stop - self.start


class EpisodeTable(Sequence[EpisodeRows]):
    """All episodes in order, without gaps between their rows.

    lengths: frames of each, positive. tasks: instructions of each. sources: what was noted of each, as JSON text,
    None for nothing; None if nothing was noted of any.
    bounds: [e + 1], episode i has the rows bounds[i] to bounds[i + 1].
    """

    def __init__(
        self,
        lengths: Int[np.ndarray, " e"],
        tasks: Iterable[tuple[str, ...]],
        sources: Iterable[str | None] | None = None,
    ) -> None:
        self.bounds: Int[np.ndarray, " e1"] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        seen: dict[tuple[str, ...], int] = {}
        self._group = np.array([seen.setdefault(words, len(seen)) for words in tasks], dtype=np.int32)
        self._groups = tuple(seen)
        self._sources = None if sources is None else _Texts(sources)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, index: SupportsIndex) -> EpisodeRows: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[EpisodeRows, ...]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> EpisodeRows | tuple[EpisodeRows, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        asked = index.__index__()
        if not -len(self) <= asked < len(self):
            raise IndexError(f"Episode {asked} asked of {len(self)}.")
        place = asked % len(self)
        return EpisodeRows(
            index=place, start=int(self.bounds[place]), stop=int(self.bounds[place + 1]),
            tasks=self.tasks_of(place), source=self._source(place),
        )  # fmt: skip

    def tasks_of(self, index: int) -> tuple[str, ...]:
        """The instructions of an episode, without reading what else was noted of it."""
        return self._groups[self._group[index]]

    @property
    def num_frames(self) -> int:
        return int(self.bounds[-1])

    @property
    def lengths(self) -> Int[np.ndarray, " e"]:
        """Frames of every episode."""
        return np.diff(self.bounds)

    def episode_of(self, rows: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """The episode that each row belongs to."""
        return np.searchsorted(self.bounds, rows, side="right") - 1

    def bookkeeping(self, episodes: range, *, fps: float, tasks: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """The bookkeeping columns [n] of these episodes, for formats that do not store them.

        tasks: instructions by task index; every row has the first of its episode's. Without, no "task_index".
        """
        lengths = np.diff(self.bounds[episodes.start : episodes.stop + 1])
        rows = np.arange(self.bounds[episodes.start], self.bounds[episodes.stop])
        frame = rows - np.repeat(self.bounds[episodes.start : episodes.stop], lengths)
        columns = {
            "timestamp": (frame / fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.repeat(np.arange(episodes.start, episodes.stop), lengths),
            "index": rows,
        }
        if tasks:
            place = {task: position for position, task in enumerate(tasks)}
            task = np.array([place[words[0]] for words in self._groups])
            columns["task_index"] = np.repeat(task[self._group[episodes.start : episodes.stop]], lengths)
        return columns

    def _source(self, index: int) -> Mapping[str, Any]:
        text = "" if self._sources is None else self._sources[index]
        try:
            return json.loads(text or "{}")
        except ValueError as error:
            raise ConfigError(f"What was noted of episode {index} is corrupt: {error}.") from error


class _Texts:
    """Many strings in one buffer."""

    def __init__(self, texts: Iterable[str | None]) -> None:
        encoded = [(text or "").encode() for text in texts]
        self._bytes = b"".join(encoded)
        self._bounds = np.array([0, *accumulate(map(len, encoded))])

    def __getitem__(self, index: int) -> str:
        return self._bytes[self._bounds[index] : self._bounds[index + 1]].decode()
