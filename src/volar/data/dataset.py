"""A data set as everything else sees it, whatever its format: numbers by row, pictures by camera and row.

A format is a `Header` (what it holds) and a `Source` (how to read it). Never decodes a picture nobody asked for, never
trusts stored statistics, never writes into the data set.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import Camera, RobotSpec
from volar.data import layout
from volar.data.cache import DecodedFrames, Recent
from volar.data.checks import check_numbers
from volar.data.declaration import Declaration
from volar.data.episodes import EpisodeTable
from volar.data.media import image_features
from volar.data.normalize import Statistics, exact_statistics
from volar.data.store import Store

NUMBER_BYTES = 256 * 2**20  # of numbers that a lazily opened data set keeps in memory
HASHED_BYTES = 2**30  # of columns that a content hash holds in memory at once


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to open a data set; see `open_dataset`."""

    decoded_bytes: int = 2**30
    decoded_folder: Path | None = None
    lazy: bool = False
    declared: Declaration | None = None


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a data set says of itself, in the terms of LeRobot v3.0 whatever its format.

    format: "LeRobot v3.0", "robomimic", ... info: what identifies it besides its content, plain JSON. fps: frames per
    second. features: name -> {"dtype", "shape", "names"}, cameras among them with dtype "video" or "image". tasks:
    instructions by task index. spec: what the numbers mean, None if the data set does not say so. facts: what the
    recorder noted about the whole recording.
    """

    store: Store
    format: str
    info: Mapping[str, Any]
    fps: float
    features: Mapping[str, Mapping[str, Any]]
    episodes: EpisodeTable
    tasks: tuple[str, ...]
    spec: RobotSpec | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class Source(ABC):
    """How the rows of one data set are read. Is pickled to workers: what it caches must be bounded and stay behind."""

    @abstractmethod
    def numbers(self, episodes: range, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Feature -> [n d], or [n] of bookkeeping columns, of these episodes' rows. names: only these of them."""

    @abstractmethod
    def pictures(self, key: str, rows: Int[np.ndarray, " n"]) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
        """Row -> picture of a camera's feature, RGB, of the declared size. The rows ascend and are distinct."""

    @abstractmethod
    def identity(self) -> Iterator[bytes]:
        """What stands for the camera files in the content hash."""

    def stored(self, key: str, episode: int) -> bytes | list[bytes] | None:
        """A camera's pictures of an episode as they lie on the disk: an mp4 of exactly its frames, or one picture file
        (PNG, JPEG) a frame. None where that cannot be had without encoding."""
        return None

    def language(self, key: str, episode: int, frames: range) -> list[list[dict[str, Any]]]:
        """The rows of a language column at some frames (step 1) of an episode. Only LeRobot v3.0 has such columns."""
        raise ConfigError(f"This format has no column {key!r}.")

    def block(self, episode: int) -> range:
        """The episodes that are best read together with this one; the blocks of all episodes are a partition."""
        return range(episode, episode + 1)


class Dataset:
    """A data set of any format; `volar.data.formats.open_dataset` makes one.

    What it shows of its header is explained there. root: as given, for messages; `store` reads files below it.
    """

    def __init__(self, header: Header, source: Source, options: Options) -> None:
        self.header, self.source, self.options = header, source, options
        self.store, self.root, self.format = header.store, header.store.root, header.format
        self.info, self.fps, self.features = header.info, header.fps, header.features
        self.episodes, self.num_frames = header.episodes, header.episodes.num_frames
        self.tasks, self.spec, self.facts = header.tasks, header.spec, header.facts
        cameras = image_features(header.features)
        self.cameras: tuple[Camera, ...] = tuple(cameras.values())
        self._keys = {camera.name: key for key, camera in cameras.items()}
        self._arrays = None if options.lazy else self.numbers(range(len(self.episodes)))
        self._forget()

    def _forget(self) -> None:
        self._decoded: dict[str, DecodedFrames | None] = {}
        self._decoded_left = self.options.decoded_bytes
        self._blocks: Recent[dict[str, np.ndarray]] = Recent(NUMBER_BYTES)

    def __getstate__(self) -> dict[str, Any]:
        """Caches stay with their process."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_decoded", "_blocks")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    @property
    def held_bytes(self) -> int:
        """Of numbers that a lazily opened data set keeps at the moment."""
        return self._blocks.num_bytes

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Numeric feature -> [num_frames d] or, for bookkeeping columns, [num_frames].

        Of a lazily opened data set this reads and keeps all of them; `rows` and `numbers` do not.
        """
        if self._arrays is None:
            self._arrays = self.numbers(range(len(self.episodes)))
        return self._arrays

    @cached_property
    def numeric(self) -> tuple[str, ...]:
        """Names of the numeric features, sorted."""
        return tuple(sorted(self._arrays if self._arrays is not None else self._block(0)))

    def numbers(self, episodes: range) -> dict[str, np.ndarray]:
        """Read and check every numeric feature of these episodes (step 1, not empty): [n d], bookkeeping [n]."""
        read = self.source.numbers(episodes)
        check_numbers(read, self.episodes, episodes, self.features, fps=self.fps, num_tasks=len(self.tasks),
                      where=self.root)  # fmt: skip
        return read

    def rows(self, name: str, indices: Sequence[int] | Int[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """Values of a numeric feature at rows `indices` [...]: [... d], bookkeeping columns [...]."""
        wanted = self._within(indices)
        if self._arrays is not None:
            return self._arrays[name][wanted]
        flat = wanted.ravel()
        episodes = self.episodes.episode_of(flat)
        sample = self._block(0 if not len(flat) else int(episodes[0]))[name]
        out = np.empty((len(flat), *sample.shape[1:]), sample.dtype)
        left = np.unique(episodes)
        while len(left):
            block = self.source.block(int(left[0]))
            inside = (episodes >= block.start) & (episodes < block.stop)
            out[inside] = self._block(block.start)[name][flat[inside] - self.episodes.bounds[block.start]]
            left = left[left >= block.stop]
        return out.reshape(*wanted.shape, *sample.shape[1:])

    def _block(self, episode: int) -> dict[str, np.ndarray]:
        block = self.source.block(episode)
        return self._blocks.get(
            block.start, lambda: self.numbers(block), lambda read: sum(values.nbytes for values in read.values())
        )

    def statistics(self) -> dict[str, Statistics]:
        """Exact statistics of every numeric feature but bookkeeping, computed from the data and kept."""
        return dict(self._statistics)

    @cached_property
    def _statistics(self) -> dict[str, Statistics]:
        names = [name for name in self.numeric if name not in layout.BOOKKEEPING]
        return {name: exact_statistics(self._column(name).reshape(self.num_frames, -1)) for name in names}

    def _column(self, name: str) -> np.ndarray:
        if self._arrays is not None:
            return self._arrays[name]
        return self.source.numbers(range(len(self.episodes)), [name])[name]

    def frames(
        self, camera: str, indices: Sequence[int] | Int[np.ndarray, " n"], *, keep: bool = True
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """The pictures of rows `indices` (0 to num_frames - 1), RGB. Raises ConfigError for damaged files.

        keep: remember them decoded, if there is room; pointless for a single pass.
        """
        key = self.require_camera(camera)
        wanted = self._within(indices)
        kept = self._kept(key) if keep else None
        missing = np.unique(wanted if kept is None else wanted[kept.missing(wanted)])
        pictures = self.source.pictures(key, missing) if len(missing) else {}
        if kept is not None:
            for index, picture in pictures.items():
                kept.put(index, picture)
            return kept.take(wanted)
        size = image_features({key: self.features[key]})[key]
        out = np.empty((len(wanted), size.height, size.width, 3), np.uint8)
        for position, index in enumerate(wanted.tolist()):
            out[position] = pictures[index]
        return out

    def content_hash(self) -> str:
        """Names the content: equal for copies, different after any change of numbers, episodes or camera files.

        Camera files are represented by their recorded checksums or, in data sets without, by size, head and tail.
        """
        return self._content_hash

    @cached_property
    def _content_hash(self) -> str:
        sha = hashlib.sha256(json.dumps([self.info, self.tasks], sort_keys=True).encode())
        for names in self._hashed_together():
            read = self._arrays or self.source.numbers(range(len(self.episodes)), names)
            for name in names:
                sha.update(name.encode() + np.ascontiguousarray(read[name]).tobytes())
        for piece in self.source.identity():
            sha.update(piece)
        return sha.hexdigest()[:24]

    def _hashed_together(self) -> list[list[str]]:
        """The numeric features in order, in as few groups as memory allows: each costs a pass over the files."""
        groups, left = [[]], HASHED_BYTES
        for name in self.numeric:
            size = 8 * self.num_frames * int(np.prod(self.features[name]["shape"]))
            if size > left and groups[-1]:
                groups.append([])
                left = HASHED_BYTES
            groups[-1].append(name)
            left -= size
        return groups

    def require_camera(self, camera: str) -> str:
        """The feature that holds the camera's pictures. Raises ConfigError for an unknown camera."""
        if camera not in self._keys:
            raise unknown_name(f"camera of {self.root}", camera, self._keys)
        return self._keys[camera]

    def _within(self, indices: Sequence[int] | Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.num_frames):
            raise IndexError(f"Rows {wanted.min()} to {wanted.max()} asked of {self.num_frames}.")
        return wanted

    def _kept(self, key: str) -> DecodedFrames | None:
        if key not in self._decoded:
            camera = image_features({key: self.features[key]})[key]
            shape = (self.num_frames, camera.height, camera.width)
            size = self.num_frames * camera.height * camera.width * 3
            if self.options.decoded_folder is not None:
                name = f"{camera.name}-{self.content_hash()}"
                self._decoded[key] = DecodedFrames(*shape, folder=self.options.decoded_folder, key=name)
            elif size <= self._decoded_left:
                self._decoded_left -= size
                self._decoded[key] = DecodedFrames(*shape)
            else:
                self._decoded[key] = None
        return self._decoded[key]


def require_feature(dataset: Dataset, name: str) -> None:
    """Raises ConfigError if the data set has no such feature."""
    if name not in dataset.features:
        raise ConfigError(f"{dataset.root} has no {name!r}; its features are {sorted(dataset.features)}.")
