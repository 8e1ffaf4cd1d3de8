"""Reads LeRobot v3.0 data sets, anybody's, without lerobot: many episodes to a file, a parquet table of episodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.checks import Extension, check_counts, check_spec, read_extension, read_info
from volar.data.dataset import Dataset, Header, Options
from volar.data.episodes import EpisodeTable
from volar.data.files import FileSource, Places
from volar.data.media import image_features
from volar.data.parquet import Table, plain, read_table, read_tables
from volar.data.store import Store


def open_lerobot(store: Store, options: Options) -> Dataset:
    """See `volar.data.formats.open_dataset`."""
    info = read_info(store)
    extension = read_extension(info, store)
    if extension.spec is not None:
        check_spec(extension.spec, list(image_features(info["features"]).values()), info["features"], store)
    episodes = _read_episodes(store, info, extension)
    header = Header(
        store=store, format=f"LeRobot {info['codebase_version']}", info=info, fps=float(info["fps"]),
        features=info["features"], episodes=episodes.table, tasks=_read_tasks(store), spec=extension.spec,
        facts=extension.facts,
    )  # fmt: skip
    source = FileSource(header, episodes.places)
    dataset = Dataset(header, source, options)
    if not options.lazy:
        source.check_videos()
    return dataset


class _SharedPlaces(Places):
    """As the table of episodes says. columns: "data/chunk_index", "videos/<key>/from_timestamp", ... -> [e].
    checksums: video key -> CRC-32 of the episode's file, -1 where unknown [e]."""

    spare_rows = True

    def __init__(
        self, info: Mapping[str, Any], columns: Mapping[str, np.ndarray], checksums: Mapping[str, np.ndarray]
    ) -> None:
        self._info, self._columns, self._checksums = info, columns, checksums
        both = np.stack([columns["data/chunk_index"], columns["data/file_index"]], axis=1)
        self.file_of = np.unique(both, axis=0, return_inverse=True)[1].ravel()

    def data(self, episode: int) -> str:
        return self._info["data_path"].format(**self._numbers("data", episode))

    def video(self, key: str, episode: int) -> str:
        return self._info["video_path"].format(video_key=key, **self._numbers(f"videos/{key}", episode))

    def begin(self, key: str, episodes: Int[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        return self._columns[f"videos/{key}/from_timestamp"][episodes]

    def checksum(self, key: str, episode: int) -> int | None:
        known = int(self._checksums[key][episode])
        return None if known < 0 else known

    def _numbers(self, kind: str, episode: int) -> dict[str, int]:
        return {name: int(self._columns[f"{kind}/{name}"][episode]) for name in ("chunk_index", "file_index")}


@dataclass(frozen=True, kw_only=True)
class _Episodes:
    table: EpisodeTable
    places: _SharedPlaces


def _read_episodes(store: Store, info: Mapping[str, Any], extension: Extension) -> _Episodes:
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
    checksums = {key: _checksums(table, key, trusted=extension.spec is not None) for key in videos}
    where = store.place("meta/episodes")
    sources = plain(table, layout.SOURCE, where) if layout.SOURCE in table.column_names else None
    return _Episodes(
        table=EpisodeTable(columns["length"], map(tuple, plain(table, "tasks", where)), sources),
        places=_SharedPlaces(info, {name: columns[name] for name in places}, checksums),
    )


def _checksums(table: Table, key: str, *, trusted: bool) -> Int[np.ndarray, " e"]:
    """Another program may have rewritten the data set; volar's block is gone then, and its checksums mean nothing."""
    name = layout.CHECKSUM + key
    if not trusted or name not in table.column_names:
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
    if len(listed) != count or not np.array_equal(listed, np.arange(count)):
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
    return tuple(plain(table, "task" if "task" in words else words[0], str(path)))
