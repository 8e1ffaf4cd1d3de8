"""Reads the rows of LeRobot data sets of any version: parquet files of numbers, and mp4 files or embedded pictures.

Versions differ in which episode lies in which file; they say so in their `Places`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, UInt8

from volar.core.errors import ConfigError
from volar.data.cutting import cut_video
from volar.data.dataset import Header, Source
from volar.data.layout import LANGUAGE
from volar.data.media import Films, decode_picture, image_features
from volar.data.parquet import ParquetFiles
from volar.data.video import require_whole


class Places(ABC):
    """Which file of a data set holds which episode.

    file_of: the number of every episode's data file, 0 and up. spare_rows: the last data file may hold rows of an
    episode that was never finished.
    """

    file_of: Int[np.ndarray, " e"]
    spare_rows: bool

    @abstractmethod
    def data(self, episode: int) -> str:
        """The name of its data file."""

    @abstractmethod
    def video(self, key: str, episode: int) -> str:
        """The name of its video of that feature."""

    @abstractmethod
    def begin(self, key: str, episodes: Int[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Where in their videos the episodes begin, in seconds."""

    @abstractmethod
    def checksum(self, key: str, episode: int) -> int | None:
        """CRC-32 of its video of that feature, if known."""


class FileSource(Source):
    """Rows of an episode follow one another in one data file, and its pictures in one video per camera."""

    def __init__(self, header: Header, places: Places) -> None:
        self._header, self._table, self._places = header, header.episodes, places
        self._cameras = image_features(header.features)
        self._videos = [key for key in self._cameras if header.features[key]["dtype"] == "video"]
        self._parquet, self._films = ParquetFiles(header.store, header.features), Films(header.store)
        # Runs of episodes that follow one another in one file, and where in its file each episode begins.
        changes = np.flatnonzero(np.diff(places.file_of)) + 1
        self._runs = np.concatenate([[0], changes, [len(self._table)]])
        self._file_rows = np.bincount(places.file_of, weights=self._table.lengths).astype(np.int64)
        self._offsets = _offsets_in_file(places.file_of, self._table.lengths)

    def numbers(self, episodes: range, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        parts: dict[str, list[np.ndarray]] = {}
        first, count, bounds = episodes.start, 0, self._table.bounds
        while first < episodes.stop:
            stop = min(int(self._runs[np.searchsorted(self._runs, first, side="right")]), episodes.stop)
            start = int(self._offsets[first])
            rows = range(start, start + int(bounds[stop] - bounds[first]))
            self._require_no_more(first)
            for name, values in self._parquet.numbers(self._places.data(first), rows, names).items():
                parts.setdefault(name, []).append(values)
            first, count = stop, count + 1
        if any(len(part) != count for part in parts.values()):
            raise ConfigError(f"The data files of {self._header.store.root} do not have the same columns.")
        return {name: part[0] if len(part) == 1 else np.concatenate(part) for name, part in parts.items()}

    def _require_no_more(self, episode: int) -> None:
        file = self._places.file_of[episode]
        if self._places.spare_rows and file == self._places.file_of[-1]:
            return
        name = self._places.data(episode)
        held, declared = int(self._parquet.group_bounds(name)[-1]), int(self._file_rows[file])
        if held > declared:
            raise ConfigError(
                f"{self._header.store.place(name)} holds {held} rows, {declared} are declared; copy the data set again."
            )

    def block(self, episode: int) -> range:
        """The episodes that begin in the same row group of the same file."""
        run = int(np.searchsorted(self._runs, episode, side="right"))
        first, stop = int(self._runs[run - 1]), int(self._runs[run])
        if stop - first == 1:
            return range(first, stop)
        bounds = self._parquet.group_bounds(self._places.data(episode))
        group = int(np.searchsorted(bounds, self._offsets[episode], side="right"))
        if group == len(bounds):
            return range(episode, episode + 1)  # beyond the file's end: reading it will say so
        low, high = np.searchsorted(self._offsets[first:stop], bounds[group - 1 : group + 1])
        return range(first + int(low), first + int(high))

    def pictures(self, key: str, rows: Int[np.ndarray, " n"]) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
        episodes = self._table.episode_of(rows)
        frames = rows - self._table.bounds[episodes]
        read = self._filmed if key in self._videos else self._embedded
        return read(key, rows, episodes, frames)

    def _filmed(self, key: str, rows: np.ndarray, episodes: np.ndarray, frames: np.ndarray) -> dict[int, np.ndarray]:
        by_file: dict[str, list[int]] = {}
        for position, episode in enumerate(episodes.tolist()):
            by_file.setdefault(self._places.video(key, episode), []).append(position)
        fps, camera = self._header.fps, self._cameras[key]
        pictures: dict[int, np.ndarray] = {}
        for name, positions in by_file.items():
            times = self._places.begin(key, episodes[positions]) + frames[positions] / fps
            checksum = self._places.checksum(key, int(episodes[positions[0]]))
            pictures |= zip(
                rows[positions].tolist(), self._films.frames(name, times, fps, camera, checksum), strict=True
            )
        return pictures

    def _embedded(self, key: str, rows: np.ndarray, episodes: np.ndarray, frames: np.ndarray) -> dict[int, np.ndarray]:
        pictures = {}
        for row, episode, frame in zip(rows.tolist(), episodes.tolist(), frames.tolist(), strict=True):
            name = self._places.data(episode)
            cell = self._parquet.cell(name, key, int(self._offsets[episode]) + frame)
            pictures[row] = decode_picture(cell, self._cameras[key], self._header.store.place(name), row)
        return pictures

    def stored(self, key: str, episode: int) -> bytes | list[bytes] | None:
        length = int(self._table.lengths[episode])
        if key in self._videos:
            path = self._header.store.path(self._places.video(key, episode))
            begin = float(self._places.begin(key, np.array([episode]))[0])
            return cut_video(path, begin, length, self._header.fps)
        name, first = self._places.data(episode), int(self._offsets[episode])
        cells = [self._parquet.cell(name, key, first + frame) for frame in range(length)]
        files = [cell["bytes"] for cell in cells if cell is not None and cell.get("bytes") is not None]
        return files if len(files) == length else None

    def language(self, key: str, episode: int, frames: range) -> list[list[dict[str, Any]]]:
        first = int(self._offsets[episode])
        return self._parquet.lists(self._places.data(episode), key, range(first + frames.start, first + frames.stop))

    def identity(self) -> Iterator[bytes]:
        everything = range(len(self._table))
        embedded = len(self._videos) < len(self._cameras) or any(key in self._header.features for key in LANGUAGE)
        files = [self._places.data(episode) for episode in everything] if embedded else []
        for key in self._videos:
            known = [self._places.checksum(key, episode) for episode in everything]
            yield json.dumps(known).encode()
            files += [self._places.video(key, episode) for episode in everything if known[episode] is None]
        for name in dict.fromkeys(files):
            yield self._header.store.outline(name)

    def check_videos(self) -> None:
        """Walk the structure of every video. Raises ConfigError for a missing or truncated one."""
        for key in self._videos:
            for name in dict.fromkeys(self._places.video(key, episode) for episode in range(len(self._table))):
                require_whole(self._header.store.path(name))


def _offsets_in_file(file: Int[np.ndarray, " e"], lengths: Int[np.ndarray, " e"]) -> Int[np.ndarray, " e"]:
    """The row of its file at which each episode begins."""
    order = np.argsort(file, kind="stable")
    starts = np.cumsum(lengths[order]) - lengths[order]
    first_of_file = np.concatenate([[True], np.diff(file[order]) != 0])
    origin = np.maximum.accumulate(np.where(first_of_file, starts, 0))
    offsets = np.empty_like(starts)
    offsets[order] = starts - origin
    return offsets
