"""Reads LeRobot v3.0 data sets, anybody's, without lerobot: many episodes to a file, a parquet table of episodes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.checks import Extension, check_counts, check_spec, read_extension, read_info
from volar.data.cutting import cut_video
from volar.data.dataset import Dataset, Header, Options, Source
from volar.data.episodes import EpisodeTable
from volar.data.media import Films, decode_picture, image_features
from volar.data.parquet import ParquetFiles, Table, read_table, read_tables
from volar.data.store import Store
from volar.data.video import require_whole


def open_lerobot(store: Store, options: Options) -> Dataset:
    """See `volar.data.formats.open_dataset`."""
    info = read_info(store)
    extension = read_extension(info, store)
    if extension.spec is not None:
        check_spec(extension.spec, list(image_features(info["features"]).values()), info["features"], store)
    rows = _read_episode_rows(store, info, extension)
    header = Header(
        store=store, format=f"LeRobot {info['codebase_version']}", info=info, fps=float(info["fps"]),
        features=info["features"], episodes=rows.table, tasks=_read_tasks(store), spec=extension.spec,
        facts=extension.facts,
    )  # fmt: skip
    source = SharedFiles(header, rows)
    dataset = Dataset(header, source, options)
    if not options.lazy:
        source.check_videos()
    return dataset


@dataclass(frozen=True, kw_only=True)
class _EpisodeRows:
    """places: "data/chunk_index", "videos/<key>/from_timestamp", ... -> [e]. checksums: video key -> CRC-32 of the
    episode's file, -1 where unknown [e]."""

    table: EpisodeTable
    places: Mapping[str, np.ndarray]
    checksums: Mapping[str, np.ndarray]


class SharedFiles(Source):
    """Data files and videos that several episodes share."""

    def __init__(self, header: Header, rows: _EpisodeRows) -> None:
        self._header, self._table, self._rows = header, rows.table, rows
        self._cameras = image_features(header.features)
        self._videos = [key for key in self._cameras if header.features[key]["dtype"] == "video"]
        self._parquet, self._films = ParquetFiles(header.store, header.features), Films(header.store)
        places = np.stack([rows.places["data/chunk_index"], rows.places["data/file_index"]], axis=1)
        # Runs of episodes that follow one another in one file, and where in its file each episode begins.
        changes = np.flatnonzero((np.diff(places, axis=0) != 0).any(1)) + 1
        self._runs = np.concatenate([[0], changes, [len(places)]])
        self._offsets = _offsets_in_file(places, rows.table.lengths)

    def numbers(self, episodes: range, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        parts: dict[str, list[np.ndarray]] = {}
        first, count = episodes.start, 0
        while first < episodes.stop:
            stop = min(int(self._runs[np.searchsorted(self._runs, first, side="right")]), episodes.stop)
            start = int(self._offsets[first])
            rows = range(start, start + int(self._table.bounds[stop] - self._table.bounds[first]))
            for name, values in self._parquet.numbers(self._data_name(first), rows, names).items():
                parts.setdefault(name, []).append(values)
            first, count = stop, count + 1
        if any(len(part) != count for part in parts.values()):
            raise ConfigError(f"The data files of {self._header.store.root} do not have the same columns.")
        return {name: part[0] if len(part) == 1 else np.concatenate(part) for name, part in parts.items()}

    def block(self, episode: int) -> range:
        """The episodes that begin in the same row group of the same file."""
        run = int(np.searchsorted(self._runs, episode, side="right"))
        first, stop = int(self._runs[run - 1]), int(self._runs[run])
        bounds = self._parquet.group_bounds(self._data_name(episode))
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
            by_file.setdefault(self._video_name(key, episode), []).append(position)
        begin, fps = self._rows.places[f"videos/{key}/from_timestamp"], self._header.fps
        pictures: dict[int, np.ndarray] = {}
        for name, positions in by_file.items():
            chosen = episodes[positions]
            times, checksum = begin[chosen] + frames[positions] / fps, self._checksum(key, int(chosen[0]))
            shown = self._films.frames(name, times, fps, self._cameras[key], checksum)
            pictures |= zip(rows[positions].tolist(), shown, strict=True)
        return pictures

    def _embedded(self, key: str, rows: np.ndarray, episodes: np.ndarray, frames: np.ndarray) -> dict[int, np.ndarray]:
        pictures = {}
        for row, episode, frame in zip(rows.tolist(), episodes.tolist(), frames.tolist(), strict=True):
            name = self._data_name(episode)
            cell = self._parquet.cell(name, key, int(self._offsets[episode]) + frame)
            pictures[row] = decode_picture(cell, self._cameras[key], self._header.store.place(name), row)
        return pictures

    def stored(self, key: str, episode: int) -> bytes | list[bytes] | None:
        length, header = int(self._table.lengths[episode]), self._header
        if key in self._videos:
            path = header.store.path(self._video_name(key, episode))
            begin = float(self._rows.places[f"videos/{key}/from_timestamp"][episode])
            return cut_video(path, begin, length, header.fps)
        name, first = self._data_name(episode), int(self._offsets[episode])
        cells = [self._parquet.cell(name, key, first + frame) for frame in range(length)]
        files = [cell["bytes"] for cell in cells if cell is not None and cell.get("bytes") is not None]
        return files if len(files) == length else None

    def identity(self) -> Iterator[bytes]:
        everything = range(len(self._table))
        embedded = len(self._videos) < len(self._cameras)
        files = [self._data_name(episode) for episode in everything] if embedded else []
        for key in self._videos:
            known = [self._checksum(key, episode) for episode in everything]
            yield json.dumps(known).encode()
            files += [self._video_name(key, episode) for episode in everything if known[episode] is None]
        for name in dict.fromkeys(files):
            yield self._header.store.outline(name)

    def check_videos(self) -> None:
        """Walk the structure of every video. Raises ConfigError for a missing or truncated one."""
        for key in self._videos:
            for name in dict.fromkeys(self._video_name(key, episode) for episode in range(len(self._table))):
                require_whole(self._header.store.path(name))

    def _checksum(self, key: str, episode: int) -> int | None:
        known = int(self._rows.checksums[key][episode])
        return None if known < 0 else known

    def _data_name(self, episode: int) -> str:
        places = self._rows.places
        return self._header.info["data_path"].format(
            chunk_index=int(places["data/chunk_index"][episode]), file_index=int(places["data/file_index"][episode])
        )

    def _video_name(self, key: str, episode: int) -> str:
        chunk, file = (self._rows.places[f"videos/{key}/{part}"][episode] for part in ("chunk_index", "file_index"))
        return self._header.info["video_path"].format(video_key=key, chunk_index=int(chunk), file_index=int(file))


def _offsets_in_file(places: Int[np.ndarray, "e 2"], lengths: Int[np.ndarray, " e"]) -> Int[np.ndarray, " e"]:
    """The row of its file at which each episode begins."""
    _, file = np.unique(places, axis=0, return_inverse=True)
    order = np.argsort(file, kind="stable")
    ends = np.cumsum(lengths[order])
    starts = ends - lengths[order]
    first_of_file = np.concatenate([[True], np.diff(file[order]) != 0])
    origin = np.maximum.accumulate(np.where(first_of_file, starts, 0))
    offsets = np.empty_like(starts)
    offsets[order] = starts - origin
    return offsets


def _read_episode_rows(store: Store, info: Mapping[str, Any], extension: Extension) -> _EpisodeRows:
    names = [name for name in store.files("meta/episodes") if name.endswith(".parquet")]
    if not names:
        raise ConfigError(f"{store.root} has no table of episodes (meta/episodes/*/*.parquet); copy it again.")
    videos = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    places = ["data/chunk_index", "data/file_index"]
    places += [f"videos/{key}/{name}" for key in videos for name in ("chunk_index", "file_index", "from_timestamp")]
    numbers = ["episode_index", "length", "dataset_from_index", "dataset_to_index", *places]
    # Another program may have rewritten the data set; volar's block is gone then, and checksums mean nothing.
    checksums = [layout.CHECKSUM + key for key in videos] if layout.EXTENSION in info else []
    wanted = {*numbers, *checksums, "tasks", layout.SOURCE}
    table = read_tables([store.path(name) for name in names], wanted.__contains__)
    _require_complete(table, [*numbers, "tasks"], store)
    index = table["episode_index"].to_numpy()
    order = np.argsort(index, kind="stable")
    table = table.take(order[index[order] < info["total_episodes"]])
    columns = {name: table[name].to_numpy() for name in numbers}
    _check_order(columns, info, store)
    known = {name: _or_unknown(table, name) for name in checksums}
    sources = table[layout.SOURCE].fill_null("").to_pylist() if layout.SOURCE in table.column_names else None
    return _EpisodeRows(
        table=EpisodeTable(columns["length"], map(tuple, table["tasks"].to_pylist()), sources),
        places={name: columns[name] for name in places},
        checksums={key: known.get(layout.CHECKSUM + key, np.full(len(table), -1)) for key in videos},
    )


def _or_unknown(table: Table, name: str) -> Int[np.ndarray, " e"]:
    if name not in table.column_names:
        return np.full(len(table), -1)
    return table[name].fill_null(-1).to_numpy()


def _require_complete(table: Table, needed: Sequence[str], store: Store) -> None:
    for name in needed:
        if name not in table.column_names:
            raise ConfigError(f"{store.root}: meta/episodes lacks the column {name!r}.")
        if table[name].null_count:
            row = table[name].is_null().index(True).as_py()
            raise ConfigError(f"{store.root}: meta/episodes lacks {name!r} (episode {table['episode_index'][row]}).")


def _check_order(columns: Mapping[str, np.ndarray], info: Mapping[str, Any], store: Store) -> None:
    """A row beyond `total_episodes` was a recording cut short, and is gone by now."""
    count, listed = info["total_episodes"], columns["episode_index"]
    if not np.array_equal(listed, np.arange(count)):
        raise ConfigError(
            f"{store.root}: info.json counts {count} episodes, meta/episodes lists {len(listed)} of them."
        )
    start, stop, length = (columns[name] for name in ("dataset_from_index", "dataset_to_index", "length"))
    ends = np.concatenate([[0], stop[:-1]])
    if (wrong := np.flatnonzero((start != ends) | (stop - start != length) | (stop <= start))).size:
        first = wrong[0]
        raise ConfigError(
            f"{store.root}: episode {first} claims rows {start[first]} to {stop[first]} and length {length[first]}, "
            f"but the one before ends at {ends[first]}; meta/episodes is damaged."
        )
    check_counts(length, info, store.root)


def _read_tasks(store: Store) -> tuple[str, ...]:
    path = store.path(layout.TASKS)
    table = read_table(path, None)
    if "task_index" not in table.column_names:
        raise ConfigError(f"{path} lacks the column 'task_index'.")
    table = table.sort_by("task_index")
    words = [name for name in table.column_names if name != "task_index"]
    if table["task_index"].to_pylist() != list(range(len(table))) or not words:
        raise ConfigError(f"{path}: the task indices are not 0 to {len(table) - 1}, or the words are missing.")
    return tuple(table["task" if "task" in words else words[0]].to_pylist())
