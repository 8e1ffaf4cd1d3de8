"""Reads LeRobot v3.0 data sets, anybody's, without lerobot: numbers at once, pictures when they are asked for.

Never decodes a picture nobody asked for, never trusts stored statistics, never writes into the data set.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int, UInt8
from PIL import Image

from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import Camera
from volar.data import layout
from volar.data.cache import DecodedFrames, Recent
from volar.data.checks import check_numbers, check_rows, check_spec, read_extension, read_info, require_columns
from volar.data.normalize import Statistics, exact_statistics
from volar.data.video import VideoDecoder, VideoFile, require_whole

_CACHES = ("_decoded", "_videos", "_pictures", "_decoder")
COMPRESSED_BYTES = 512 * 2**20  # of mp4 and PNG data kept in memory


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


def open_dataset(
    root: str | Path, *, decoded_bytes: int = 2**30, decoded_folder: Path | None = None
) -> "LeRobotDataset":
    """Open and check a data set: every number is read, every video's structure walked, no picture decoded.

    decoded_bytes: decoded pictures are kept in memory if all of a camera's fit into what is left of this.
    decoded_folder: keep them in memory-mapped files there instead, shared by processes and later runs.
    Raises ConfigError for a missing, truncated or corrupt file (named), another version, numbers that are not finite
    (with the episode), timestamps that contradict the frame rate, or rows that contradict the episode table.
    """
    return LeRobotDataset(Path(root), decoded_bytes=decoded_bytes, decoded_folder=decoded_folder)


class LeRobotDataset:
    """A data set on disk; see `open_dataset`.

    fps: frames per second. features: as declared in info.json. arrays: numeric feature -> [num_frames d] or, for
    bookkeeping columns, [num_frames]. tasks: instructions by task index. spec: what the numbers mean, None if the data
    set does not say so. facts: what the recorder noted about the whole recording.
    """

    def __init__(self, root: Path, *, decoded_bytes: int, decoded_folder: Path | None) -> None:
        self.root = root
        self.info = read_info(root)
        self.fps = float(self.info["fps"])
        self.features: dict[str, dict[str, Any]] = self.info["features"]
        extension = read_extension(self.info, root)
        self.spec, self.facts = extension.spec, extension.facts
        self.cameras = tuple(_camera(key, feature) for key, feature in _image_features(self.features).items())
        self._image_keys = {layout.camera_name(key): key for key in _image_features(self.features)}
        if self.spec is not None:
            check_spec(self.spec, self.cameras, self.features, root)
        self._decoded_bytes, self._decoded_folder = decoded_bytes, decoded_folder
        self._rows = self._read_episode_table()
        self.episodes = tuple(
            EpisodeRows(
                index=row["episode_index"], start=row["dataset_from_index"], stop=row["dataset_to_index"],
                tasks=tuple(row["tasks"]), source=json.loads(row.get(layout.SOURCE) or "{}"),
            )
            for row in self._rows
        )  # fmt: skip
        self.num_frames = self.episodes[-1].stop
        self.tasks = self._read_tasks()
        self._data_files = _distinct((row["data/chunk_index"], row["data/file_index"]) for row in self._rows)
        self.arrays = self._read_numbers()
        check_numbers(self.arrays, self._rows, self.info, root, num_tasks=len(self.tasks))
        for key in self._image_keys.values():
            if self.features[key]["dtype"] == "video":
                for path in _distinct(self._video_path(key, row) for row in self._rows):
                    require_whole(path)
        self._forget()

    def _forget(self) -> None:
        self._decoded: dict[str, DecodedFrames | None] = {}
        self._decoded_left = self._decoded_bytes
        self._videos: Recent[VideoFile] = Recent(COMPRESSED_BYTES)
        self._decoder = VideoDecoder()
        self._pictures: Recent[pa.ChunkedArray] = Recent(COMPRESSED_BYTES)

    def __getstate__(self) -> dict[str, Any]:
        """Caches hold decoders, which stay with their process."""
        return {key: value for key, value in self.__dict__.items() if key not in _CACHES}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def statistics(self) -> dict[str, Statistics]:
        """Exact statistics of every numeric feature but bookkeeping, computed from the data and kept."""
        return dict(self._statistics)

    @cached_property
    def _statistics(self) -> dict[str, Statistics]:
        return {
            key: exact_statistics(values.reshape(self.num_frames, -1))
            for key, values in self.arrays.items()
            if key not in layout.BOOKKEEPING
        }

    def frames(
        self, camera: str, indices: Sequence[int] | Int[np.ndarray, " n"], *, keep: bool = True
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """The pictures of rows `indices` (0 to num_frames - 1), RGB. Raises ConfigError for damaged files.

        keep: remember them decoded, if there is room; pointless for a single pass.
        """
        key = self.require_camera(camera)
        wanted = np.asarray(indices, dtype=np.int64)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.num_frames):
            raise IndexError(f"Rows {wanted.min()} to {wanted.max()} asked of {self.num_frames}.")
        kept = self._kept(key) if keep else None
        missing = np.unique(wanted if kept is None else wanted[kept.missing(wanted)])
        read = self._read_video if self.features[key]["dtype"] == "video" else self._read_images
        pictures = read(key, missing) if len(missing) else {}
        if kept is not None:
            for index, picture in pictures.items():
                kept.put(index, picture)
            return kept.take(wanted)
        height, width = self._size(key)
        out = np.empty((len(wanted), height, width, 3), np.uint8)
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
        for name in sorted(self.arrays):
            sha.update(name.encode() + np.ascontiguousarray(self.arrays[name]).tobytes())
        stores = {self.features[key]["dtype"] for key in self._image_keys.values()}
        files = [self._data_path(place) for place in self._data_files] if "image" in stores else []
        for key in self._image_keys.values():
            if self.features[key]["dtype"] == "video":
                checksums = [self._checksum(key, row) for row in self._rows]
                sha.update(json.dumps(checksums).encode())
                without = (row for row, known in zip(self._rows, checksums, strict=True) if known is None)
                files += _distinct(self._video_path(key, row) for row in without)
        for path in files:
            sha.update(_outline(path))
        return sha.hexdigest()[:24]

    def require_camera(self, camera: str) -> str:
        """The feature that holds the camera's pictures. Raises ConfigError for an unknown camera."""
        if camera not in self._image_keys:
            raise unknown_name(f"camera of {self.root}", camera, self._image_keys)
        return self._image_keys[camera]

    def _size(self, key: str) -> tuple[int, int]:
        camera = _camera(key, self.features[key])
        return camera.height, camera.width

    def _kept(self, key: str) -> DecodedFrames | None:
        if key not in self._decoded:
            height, width = self._size(key)
            size = self.num_frames * height * width * 3
            if self._decoded_folder is not None:
                name = f"{layout.camera_name(key)}-{self.content_hash()}"
                self._decoded[key] = DecodedFrames(
                    self.num_frames, height, width, folder=self._decoded_folder, key=name
                )
            elif size <= self._decoded_left:
                self._decoded_left -= size
                self._decoded[key] = DecodedFrames(self.num_frames, height, width)
            else:
                self._decoded[key] = None
        return self._decoded[key]

    def _data_path(self, place: tuple[int, int]) -> Path:
        return self.root / self.info["data_path"].format(chunk_index=place[0], file_index=place[1])

    def _video_path(self, key: str, row: Mapping[str, Any]) -> Path:
        chunk, file = row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"]
        return self.root / self.info["video_path"].format(video_key=key, chunk_index=chunk, file_index=file)

    def _checksum(self, key: str, row: Mapping[str, Any]) -> int | None:
        """Of the row's video, unless another program has rewritten the data set (volar's block is gone then)."""
        return row.get(layout.CHECKSUM + key) if self.spec is not None else None

    def _read_episode_table(self) -> list[dict[str, Any]]:
        paths = sorted((self.root / "meta/episodes").glob("*/*.parquet"))
        if not paths:
            raise ConfigError(f"{self.root} has no table of episodes (meta/episodes/*/*.parquet); copy it again.")
        rows = []
        for path in paths:
            with _open_parquet(path) as file:
                names = file.schema_arrow.names
                columns = [name for name in names if not name.startswith(("stats/", layout.HISTOGRAM))]
                rows += _read(file, path, columns).to_pylist()
        return check_rows(rows, self.info, self.root)

    def _read_tasks(self) -> tuple[str, ...]:
        path = self.root / layout.TASKS
        with _open_parquet(path) as file:
            table = _read(file, path, None)
        if "task_index" not in table.column_names:
            raise ConfigError(f"{path} lacks the column 'task_index'.")
        table = table.sort_by("task_index")
        words = [name for name in table.column_names if name != "task_index"]
        if table["task_index"].to_pylist() != list(range(len(table))) or not words:
            raise ConfigError(f"{path}: the task indices are not 0 to {len(table) - 1}, or the words are missing.")
        return tuple(table["task" if "task" in words else words[0]].to_pylist())

    def _read_numbers(self) -> dict[str, np.ndarray]:
        parts: dict[str, list[np.ndarray]] = {}
        self._group_starts: list[tuple[int, Path, int]] = []
        start = 0
        for place in self._data_files:
            path = self._data_path(place)
            with _open_parquet(path) as file:
                require_columns(self.features, file.schema_arrow.names, path)
                columns = [
                    field.name for field in file.schema_arrow if field.name in self.features and _is_numeric(field.type)
                ]
                for name in columns:
                    parts.setdefault(name, [])
                for name, column in zip(columns, _read(file, path, columns).columns, strict=True):
                    parts[name].append(_matrix(column, path, name))
                for group in range(file.num_row_groups):
                    self._group_starts.append((start, path, group))
                    start += file.metadata.row_group(group).num_rows
        if any(len(part) != len(self._data_files) for part in parts.values()):
            raise ConfigError(f"The files under {self.root / 'data'} do not have the same columns.")
        joined = {name: np.concatenate(part)[: self.num_frames] for name, part in parts.items()}
        return {name: value[:, 0] if name in layout.BOOKKEEPING else value for name, value in joined.items()}

    def _read_video(self, key: str, indices: Int[np.ndarray, " n"]) -> dict[int, np.ndarray]:
        by_file: dict[Path, list[int]] = {}
        rows = [self._rows[episode] for episode in self.arrays["episode_index"][indices].tolist()]
        for position, row in enumerate(rows):
            by_file.setdefault(self._video_path(key, row), []).append(position)
        pictures: dict[int, np.ndarray] = {}
        for path, positions in by_file.items():
            video = self._videos.get(
                path,
                lambda path=path, row=rows[positions[0]]: VideoFile(path, self._checksum(key, row)),
                lambda video: video.num_bytes,
            )
            frame = self.arrays["frame_index"][indices[positions]]
            begin = np.array([rows[position][f"videos/{key}/from_timestamp"] for position in positions])
            shown = video.frames_at(begin + frame / self.fps, self.fps)
            decoded = self._decoder.decode(video, sorted(set(shown)))
            pictures |= {int(indices[p]): decoded[place] for p, place in zip(positions, shown, strict=True)}
        return self._same_size(key, pictures)

    def _read_images(self, key: str, indices: Int[np.ndarray, " n"]) -> dict[int, np.ndarray]:
        starts = np.array([start for start, _, _ in self._group_starts])
        pictures = {}
        for index in indices.tolist():
            start, path, group = self._group_starts[int(np.searchsorted(starts, index, side="right")) - 1]

            def read(path: Path = path, group: int = group) -> pa.ChunkedArray:
                with _open_parquet(path) as file:
                    return _read(file, path, [key], group)[key]

            cell = self._pictures.get((path, group, key), read, lambda column: column.nbytes)[index - start].as_py()
            pictures[index] = _decode_picture(cell, path, index)
        return self._same_size(key, pictures)

    def _same_size(self, key: str, pictures: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        size = (*self._size(key), 3)
        for index, picture in pictures.items():
            if picture.shape != size:
                raise ConfigError(f"{self.root}: {key} of row {index} is {picture.shape}, declared {size}.")
        return pictures


def _image_features(features: Mapping[str, Any]) -> dict[str, Any]:
    """Colour cameras; depth maps are left alone."""
    return {
        key: feature
        for key, feature in features.items()
        if feature["dtype"] in ("video", "image") and 3 in (feature["shape"][0], feature["shape"][-1])
    }


def _camera(key: str, feature: Mapping[str, Any]) -> Camera:
    shape, names = feature["shape"], feature.get("names") or ["height", "width", "channels"]
    height, width = shape[1:] if names[0] in ("channel", "channels") else shape[:2]
    return Camera(name=layout.camera_name(key), height=height, width=width)


def _distinct(items: Any) -> list[Any]:
    return list(dict.fromkeys(items))


def _is_numeric(kind: pa.DataType) -> bool:
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{path} is missing, truncated or corrupt: {error}.") from error


def _read(file: pq.ParquetFile, path: Path, columns: list[str] | None, group: int | None = None) -> pa.Table:
    try:
        if group is not None:
            return file.read_row_group(group, columns=columns, use_threads=False)
        return file.read(columns=columns, use_threads=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{path} is truncated or corrupt: {error}.") from error


def _matrix(column: pa.ChunkedArray, path: Path, name: str) -> np.ndarray:
    """A numeric column as [n d]; features of more dimensions are flattened. A null is refused, never a zero."""
    array = column.combine_chunks()
    length = len(array)
    while not (pa.types.is_primitive(array.type)):
        nulls = array.null_count
        array = array.flatten()
        if nulls:
            break
    if array.null_count or (length and len(array) % length):
        raise ConfigError(f"{path}: column {name!r} has missing values, or rows of unequal length.")
    return array.to_numpy(zero_copy_only=False).reshape(length, -1)


def _decode_picture(cell: Mapping[str, Any] | None, path: Path, row: int) -> np.ndarray:
    if cell is None or cell.get("bytes") is None:
        raise ConfigError(f"{path}: row {row} holds no picture, only a link; embed the pictures in the data set.")
    try:
        return np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ConfigError(f"{path}: the picture of row {row} is corrupt: {error}.") from error


def _outline(path: Path, ends: int = 65536) -> bytes:
    """Size, first and last bytes of a file: cheap, and different for any two videos that occur in practice."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(ends)
        file.seek(max(size - ends, 0))
        return str(size).encode() + head + file.read()
