"""One line of JSON per finished episode, appended as it happens: what an interrupted evaluation goes on from.

A line that a dying process left unfinished is dropped and its episode is due again; any other damage is an error.
"""

import json
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import numpy as np

from volar.core.atomic import FolderLock
from volar.core.errors import ConfigError
from volar.core.robot import Episode, Job, Outcome
from volar.evaluation.plain import from_plain

Key = tuple[str, str, int]  # arm, task, seed
# What records of volar 0.1 and of other programs do not tell.
NEWER = ("strangeness", "simulator_steps", "thoughts", "tracks", "failure")


def key_of(job: Job) -> Key:
    return job.arm, job.task, job.seed


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """An episode without its trajectory, and the film of it: a path relative to the run's folder, if one was kept."""

    episode: Episode
    film: str | None = None

    @property
    def key(self) -> Key:
        return key_of(self.episode.job)


@dataclass(frozen=True, kw_only=True)
class Unpaired:
    """A scene that differed between arms although task and seed are the same: arm -> digest of what it saw first."""

    task: str
    seed: int
    digests: Mapping[str, str]


class RecordFile:
    """The record file of one run, open for appending. A second process that opens it is refused.

    `known` is what the file already holds. Use it as a context manager or call `close`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FolderLock(path.parent)
        self._stream = path.open("a+b")
        records, whole = _parse(path)
        self._stream.truncate(whole)
        if whole and not path.read_bytes().endswith(b"\n"):
            self._stream.write(b"\n")
        self.known: dict[Key, EpisodeRecord] = {record.key: record for record in records}

    def append(self, episode: Episode, film: str | None = None) -> EpisodeRecord:
        """Add one episode; it is on the disk when this returns. ConfigError for a key that is already there, NaN, or
        a film outside the run's folder."""
        record = EpisodeRecord(episode=episode, film=film)
        if record.key in self.known:
            raise ConfigError(f"{self.path} already holds arm {record.key[0]!r}, task {record.key[1]!r}, "
                              f"seed {record.key[2]}; an episode is recorded once.")  # fmt: skip
        line = _to_json(record)
        _from_json(json.loads(line), where=f"New record for {self.path}")
        self._stream.write(line.encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.known[record.key] = record
        return record

    def close(self) -> None:
        self._stream.close()
        self._lock.release()

    def __enter__(self) -> "RecordFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path) -> list[EpisodeRecord]:
    """Every record of the file, in the order of writing. Warns when the last line is unfinished and leaves it out.
    Raises ConfigError naming file and line for damage, unknown or missing keys, wrong types, NaN and duplicates."""
    return _parse(path)[0]


def done(path: Path) -> set[Key]:
    """(arm, task, seed) of every recorded episode, broken ones included; empty when there is no file yet."""
    return {record.key for record in read(path)} if path.exists() else set()


def unpaired(records: Iterable[EpisodeRecord]) -> tuple[Unpaired, ...]:
    """Every (task, seed) whose arms did not begin from the same observation. Broken episodes are left out."""
    scenes: dict[tuple[str, int], dict[str, str]] = {}
    for record in records:
        arm, task, seed = record.key
        if record.episode.outcome is not Outcome.ERROR:
            scenes.setdefault((task, seed), {})[arm] = record.episode.first_observation
    return tuple(
        Unpaired(task=task, seed=seed, digests=digests)
        for (task, seed), digests in sorted(scenes.items())
        if len(set(digests.values())) > 1
    )


def _parse(path: Path) -> tuple[list[EpisodeRecord], int]:
    """The records and how many bytes of the file they fill."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(f"No record file {path}; `volar evaluate` writes it.") from error
    records: dict[Key, EpisodeRecord] = {}
    lines: dict[Key, int] = {}
    whole = 0
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        where = f"{path}, line {number}"
        try:
            content = json.loads(line)
        except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are both ValueErrors
            if whole + len(line) == len(data) and not line.endswith(b"\n"):
                warnings.warn(
                    f"{where} is unfinished (the writer was stopped); its episode is due again.", stacklevel=3
                )
                break
            raise ConfigError(
                f"{where} is not JSON ({error}). The file is damaged; restore it or delete it."
            ) from error
        record = _from_json(content, where=where)
        if record.key in records:
            raise ConfigError(f"{where} repeats arm {record.key[0]!r}, task {record.key[1]!r}, seed {record.key[2]} "
                              f"of line {lines[record.key]}; remove one of the two.")  # fmt: skip
        records[record.key], lines[record.key] = record, number
        whole += len(line)
    return list(records.values()), whole


def _to_json(record: EpisodeRecord) -> str:
    episode = replace(record.episode, trajectory=None)
    content = {**asdict(episode), "film": record.film}
    del content["trajectory"]
    return json.dumps(content, ensure_ascii=False, default=_number)


def _number(value: object) -> object:
    if isinstance(value, np.generic):  # simulators hand out numpy scalars where they promise float
        return value.item()
    raise TypeError(f"{type(value).__name__} does not belong in an episode record.")


def _from_json(content: Any, *, where: str) -> EpisodeRecord:
    if not isinstance(content, dict) or "film" not in content:
        raise ConfigError(f"{where}: expected an episode record with a 'film' (null when none was kept).")
    film = content.pop("film")
    if film is not None and not (isinstance(film, str) and _inside(film)):
        raise ConfigError(
            f"{where}, 'film': expected a path inside the run's folder such as 'films/0.jpg', got {film!r}."
        )
    return EpisodeRecord(
        episode=from_plain(Episode, content, where=where, omit=("trajectory",), newer=NEWER), film=film
    )


def _inside(film: str) -> bool:
    path = PurePosixPath(film)
    return film != "" and not path.is_absolute() and ".." not in path.parts and "\\" not in film
