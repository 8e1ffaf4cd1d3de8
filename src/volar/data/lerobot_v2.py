"""Reads LeRobot v2.0 and v2.1 data sets: a parquet file per episode, an mp4 per episode and camera, tables in JSON.

The two differ only in how they store statistics, which are not read.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from jaxtyping import Float64, Int

from volar.core.errors import ConfigError
from volar.data.checks import check_counts, read_info
from volar.data.dataset import Dataset, Header, Options
from volar.data.episodes import EpisodeTable
from volar.data.files import FileSource, Places
from volar.data.store import Store

EPISODES: Final = "meta/episodes.jsonl"
TASKS: Final = "meta/tasks.jsonl"
KNOWN: Final = {"episode_index", "tasks", "length"}


def open_lerobot_v2(store: Store, options: Options) -> Dataset:
    """See `volar.data.formats.open_dataset`."""
    header = read_header(store)
    source = FileSource(header, EpisodePlaces(header.info))
    dataset = Dataset(header, source, options)
    if not options.lazy:
        source.check_videos()
    return dataset


def read_header(store: Store) -> Header:
    """What the files under meta/ say. Raises ConfigError where they are damaged or contradict one another."""
    info = read_info(store)
    if not (isinstance(info.get("chunks_size"), int) and info["chunks_size"] > 0):
        raise ConfigError(f"{store.root}: info.json has no positive chunks_size, got {info.get('chunks_size')!r}.")
    return Header(
        store=store, format=f"LeRobot {info['codebase_version']}", info=info, fps=float(info["fps"]),
        features=info["features"], episodes=_read_episodes(store, info), tasks=_read_tasks(store),
    )  # fmt: skip


class EpisodePlaces(Places):
    """Every episode has files of its own."""

    spare_rows = False

    def __init__(self, info: Mapping[str, Any]) -> None:
        self._info = info
        self.file_of = np.arange(info["total_episodes"])

    def data(self, episode: int) -> str:
        return self._info["data_path"].format(**self._numbers(episode))

    def video(self, key: str, episode: int) -> str:
        return self._info["video_path"].format(video_key=key, **self._numbers(episode))

    def begin(self, key: str, episodes: Int[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        return np.zeros(len(episodes))

    def checksum(self, key: str, episode: int) -> int | None:
        return None

    def _numbers(self, episode: int) -> dict[str, int]:
        return {"episode_chunk": episode // self._info["chunks_size"], "episode_index": episode}


def _read_episodes(store: Store, info: Mapping[str, Any]) -> EpisodeTable:
    lines, where = _read_lines(store, EPISODES), store.place(EPISODES)
    for number, line in enumerate(lines):
        length, tasks = line.get("length"), line.get("tasks")
        if line.get("episode_index") != number or not isinstance(length, int) or abs(length) > 2**53:
            raise ConfigError(
                f"{where}: episode {number} is missing, out of order, or without a length: {_short(line)}."
            )
        if not (isinstance(tasks, list) and all(isinstance(task, str) for task in tasks)):
            raise ConfigError(f"{where}: the tasks of episode {number} must be a list of texts, got {_short(tasks)}.")
    lengths = np.array([line["length"] for line in lines], dtype=np.int64)
    check_counts(lengths, info, store.root)
    noted = [{key: value for key, value in line.items() if key not in KNOWN} for line in lines]
    sources = [json.dumps(facts) for facts in noted] if any(noted) else None
    return EpisodeTable(lengths, (tuple(line["tasks"]) for line in lines), sources)


def _read_tasks(store: Store) -> tuple[str, ...]:
    lines = sorted(_read_lines(store, TASKS), key=lambda line: str(line.get("task_index")).zfill(20))
    for number, line in enumerate(lines):
        if line.get("task_index") != number or not isinstance(line.get("task"), str):
            raise ConfigError(f"{store.place(TASKS)}: there is no task {number}, or it has no words: {_short(line)}.")
    return tuple(line["task"] for line in lines)


def _read_lines(store: Store, name: str) -> list[dict[str, Any]]:
    lines = []
    for number, text in enumerate(store.text(name).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{store.place(name)} is truncated or corrupt in line {number}: {error}.") from error
        if not isinstance(line, dict):
            raise ConfigError(f"{store.place(name)}: line {number} must be an object, got {_short(line)}.")
        lines.append(line)
    return lines


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
