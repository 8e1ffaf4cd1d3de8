"""Reads GR00T data sets: LeRobot v2 files, and meta/modality.json that names slices, cameras and annotations.

Format: github.com/NVIDIA/Isaac-GR00T, getting_started/data_preparation.md. Only what modality.json names is shown: its
slices, in its order, joined to one state and one action; its cameras under its names; its annotations. Stored and
relative statistics are not read.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from jaxtyping import Int, UInt8

from volar.core.errors import ConfigError, unknown_name
from volar.data import layout
from volar.data.dataset import Dataset, Header, Options, Source
from volar.data.episodes import EpisodeTable
from volar.data.files import FileSource
from volar.data.lerobot_v2 import EpisodePlaces, read_header
from volar.data.media import image_features
from volar.data.store import Store

MODALITY: Final = "meta/modality.json"
ANNOTATION: Final = "annotation."
INSTRUCTION: Final = "task_description"
MADE: Final = ("frame_index", "index")  # bookkeeping that GR00T does not demand, and that follows from the table


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Dimensions start (inclusive) to stop (exclusive) of a stored column, under a name."""

    name: str
    column: str
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Modality:
    """What meta/modality.json declares. parts: shown feature -> its slices. cameras: shown feature -> stored one.
    annotations: shown name -> stored column of task indices. instruction: the column that instructs the policy."""

    parts: Mapping[str, tuple[Slice, ...]]
    cameras: Mapping[str, str]
    annotations: Mapping[str, str]
    instruction: str


def open_gr00t(store: Store, options: Options) -> Dataset:
    """See `volar.data.formats.open_dataset`.

    A row's task is that of its annotation "...task_description", or its task_index if there is none, or several. Times
    are counted from an episode's first row.
    """
    stored = read_header(store)
    modality = read_modality(store, stored.features)
    shown = Header(
        store=store, format="GR00T", info={**stored.info, "modality": _json(store)}, fps=stored.fps,
        features=_features(stored.features, modality), episodes=stored.episodes, tasks=stored.tasks,
        facts={"instruction": modality.instruction},
    )  # fmt: skip
    kept = {*_columns(modality), *modality.cameras.values(), *_others(stored.features, modality)}
    inner = Header(
        store=store, format=stored.format, info=stored.info, fps=stored.fps, episodes=stored.episodes,
        tasks=stored.tasks, features={key: value for key, value in stored.features.items() if key in kept},
    )  # fmt: skip
    files = FileSource(inner, EpisodePlaces(stored.info))
    dataset = Dataset(shown, _Renamed(files, modality, stored.episodes, stored.fps), options)
    if not options.lazy:
        files.check_videos()
    return dataset


class _Renamed(Source):
    """Stored columns as modality.json presents them."""

    def __init__(self, files: FileSource, modality: Modality, table: EpisodeTable, fps: float) -> None:
        self._files, self._modality, self._table, self._fps = files, modality, table, fps

    def numbers(self, episodes: range, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        wanted = None if names is None else {stored for name in names for stored in self._stored(name)}
        read = self._files.numbers(episodes, None if wanted is None else sorted(wanted))
        shown = {name: values for name, values in read.items() if name not in _columns(self._modality)}
        for name, slices in self._modality.parts.items():
            if names is None or name in names:
                shown[name] = np.concatenate([read[part.column][:, part.start : part.stop] for part in slices], axis=1)
        for name, column in self._modality.annotations.items():
            if names is None or name in names:
                shown[name] = read[column].reshape(-1, 1)
        made = self._table.bookkeeping(episodes, fps=self._fps)
        for name in MADE:
            if name not in shown and (names is None or name in names):
                shown[name] = made[name]
        if names is None or "task_index" in names:
            shown["task_index"] = read[self._modality.instruction].reshape(-1)
        if "timestamp" in shown:
            starts = self._table.bounds[episodes.start : episodes.stop] - self._table.bounds[episodes.start]
            lengths = np.diff(self._table.bounds[episodes.start : episodes.stop + 1])
            shown["timestamp"] = shown["timestamp"] - np.repeat(shown["timestamp"][starts], lengths)
        return shown

    def _stored(self, name: str) -> list[str]:
        """The columns that a shown feature is made of."""
        if name in self._modality.parts:
            return [part.column for part in self._modality.parts[name]]
        if name == "task_index":
            return [self._modality.instruction]
        return [self._modality.annotations.get(name, name)]

    def pictures(self, key: str, rows: Int[np.ndarray, " n"]) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
        return self._files.pictures(self._modality.cameras[key], rows)

    def stored(self, key: str, episode: int) -> bytes | list[bytes] | None:
        return self._files.stored(self._modality.cameras[key], episode)

    def identity(self) -> Iterator[bytes]:
        return self._files.identity()


def read_modality(store: Store, features: Mapping[str, Any]) -> Modality:
    """modality.json, checked against the features. Raises ConfigError that names the entry that does not fit."""
    data, where = _json(store), store.place(MODALITY)
    groups = {kind: data.get(kind) or {} for kind in ("state", "action", "video", "annotation")}
    for kind, entries in groups.items():
        if not (isinstance(entries, dict) and all(isinstance(entry, dict) for entry in entries.values())):
            raise ConfigError(f"{where}: {kind!r} must map names to objects, got {entries!r}.")
    if not groups["action"]:
        raise ConfigError(f"{where} declares no action.")
    parts = {}
    for kind, key in (("state", layout.STATE), ("action", layout.ACTION)):
        slices = [_slice(where, kind, name, entry, key, features) for name, entry in groups[kind].items()]
        _require_apart(where, kind, slices)
        if slices:
            parts[key] = tuple(slices)
    cameras = {}
    for name, entry in groups["video"].items():
        stored = str(entry.get("original_key", layout.image_key(name)))
        if stored not in image_features(features):
            raise unknown_name(f"camera for {name!r} of {where}", stored, image_features(features))
        cameras[layout.image_key(name)] = stored
    annotations = {}
    for name, entry in groups["annotation"].items():
        column = str(entry.get("original_key", ANNOTATION + name))
        if column not in features or features[column]["shape"] != [1]:
            raise ConfigError(f"{where}: the annotation {name!r} has no column {column!r} of one number a row.")
        annotations[ANNOTATION + name] = column
    instructing = [column for name, column in annotations.items() if name.endswith(INSTRUCTION)]
    instruction = instructing[0] if len(instructing) == 1 else "task_index"
    if instruction not in features:
        raise ConfigError(f"{where} names no annotation {INSTRUCTION!r}, and there is no column 'task_index'.")
    return Modality(parts=parts, cameras=cameras, annotations=annotations, instruction=instruction)


def _slice(
    where: str, kind: str, name: str, entry: Mapping[str, Any], column: str, features: Mapping[str, Any]
) -> Slice:
    column = str(entry.get("original_key", column))
    shape = features.get(column, {}).get("shape", [])
    if len(shape) != 1 or features[column]["dtype"] in ("video", "image", "string"):
        raise ConfigError(f"{where}: {kind} {name!r} is cut from {column!r}, which is no declared vector of numbers.")
    start, stop = entry.get("start"), entry.get("end")
    if not (isinstance(start, int) and isinstance(stop, int) and 0 <= start < stop <= shape[0]):
        raise ConfigError(
            f"{where}: {kind} {name!r} has start {start!r} and end {stop!r}; {column!r} has dimensions 0 to {shape[0]}."
        )
    return Slice(name=name, column=column, start=start, stop=stop)


def _require_apart(where: str, kind: str, slices: Sequence[Slice]) -> None:
    ordered = sorted(slices, key=lambda part: (part.column, part.start))
    for one, other in pairwise(ordered):
        if one.column == other.column and other.start < one.stop:
            raise ConfigError(
                f"{where}: {kind} {one.name!r} ({one.start} to {one.stop}) and {other.name!r} ({other.start} to "
                f"{other.stop}) overlap; a dimension can have one meaning only."
            )


def _columns(modality: Modality) -> set[str]:
    """Stored columns that are shown under another name or in another shape."""
    cut = {part.column for slices in modality.parts.values() for part in slices}
    return cut | set(modality.annotations.values()) | {modality.instruction}


def _others(features: Mapping[str, Any], modality: Modality) -> list[str]:
    """Columns that are shown as they are stored: bookkeeping, rewards and the like, but no unnamed camera or vector."""
    left = [key for key in features if key not in _columns(modality) and not key.startswith(ANNOTATION)]
    cameras = image_features(features)
    return [key for key in left if key not in cameras and key not in (layout.STATE, layout.ACTION)]


def _features(stored: Mapping[str, Any], modality: Modality) -> dict[str, dict[str, Any]]:
    """The shown features, as LeRobot v3.0 declares them."""
    shown = {key: dict(stored[key]) for key in _others(stored, modality)}
    for key, slices in modality.parts.items():
        names = [name for part in slices for name in _names(stored[part.column], part)]
        shown[key] = layout.vector(len(names), names, stored[slices[0].column]["dtype"])
    shown |= {key: dict(stored[column]) for key, column in modality.cameras.items()}
    shown |= {name: layout.vector(1, None, "int64") for name in modality.annotations}
    return shown | {name: layout.vector(1, None, kind) for name, kind in layout.BOOKKEEPING.items()}


def _names(feature: Mapping[str, Any], part: Slice) -> list[str]:
    """One per dimension: the slice's name, and the stored dimension's or its number."""
    names = feature.get("names")
    known = names if isinstance(names, list) and len(names) == feature["shape"][0] else None
    if part.stop - part.start == 1:
        return [part.name]
    return [f"{part.name}.{known[i] if known else i - part.start}" for i in range(part.start, part.stop)]


def _json(store: Store) -> dict[str, Any]:
    try:
        data = json.loads(store.text(MODALITY))
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{store.place(MODALITY)} is corrupt: {error}.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{store.place(MODALITY)} must be an object, got {data!r}.")
    return data
