"""Writes demonstrations as a LeRobot v3.0 data set, one episode at a time, each safe once `add` has returned.

One file of every kind per episode, so that no finished file is ever touched again; `meta/info.json`, replaced last,
is what makes an episode exist. Torch-free; does not read other people's data sets (that is `lerobot.py`).
"""

import io
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from volar.core.atomic import TEMPORARY, FolderLock, write_files
from volar.core.errors import ConfigError
from volar.core.robot import RobotSpec, Trajectory
from volar.data import layout
from volar.data.recording import Storage, check_trajectory, differences, new_info
from volar.data.summaries import pixel_counts, summarize, summarize_pixels
from volar.data.video import encode_video

STATS_GROWTH = (
    1.1  # stats.json is renewed when the data have grown by a tenth, so that its cost per episode is constant
)


class DatasetWriter:
    """A data set being recorded. Use as a context manager, or call `close` to bring stats.json up to date.

    camera_storage: camera -> "video" (H.264, small) or "image" (PNG, lossless), for every camera of `spec`.
    extra: facts for every episode, such as the render recipe; plain JSON. resume: go on with what `root` holds, if
    anything. Raises ConfigError if `root` holds something else, and lists every point on which the two differ.
    """

    def __init__(
        self,
        root: Path,
        *,
        spec: RobotSpec,
        fps: int | float,
        camera_storage: Mapping[str, Storage],
        robot_type: str,
        extra: Mapping[str, Any],
        resume: bool = False,
    ) -> None:
        self.root, self.spec = Path(root), spec
        self._info = new_info(spec=spec, fps=fps, camera_storage=camera_storage, robot_type=robot_type, extra=extra)
        existing = _read_existing(self.root, self._info, resume=resume)
        self._tasks: list[str] = []
        self._saved: list[dict[str, Any]] = []
        numeric = [key for key, value in self._info["features"].items() if value["dtype"] not in ("video", "image")]
        self._numbers: dict[str, list[np.ndarray]] = {key: [] for key in numeric}
        self._pixels = {camera.name: np.zeros((3, 256), np.int64) for camera in spec.cameras}
        self._frames_in_stats = 0
        self._lock = FolderLock(self.root / "meta")
        if existing is None:
            write_files({self.root / layout.INFO: _json(self._info)})
        else:
            self._info = existing
            self._remove_unfinished()
            self._restore()

    @property
    def saved(self) -> list[dict[str, Any]]:
        """The `source` of every saved episode, in order."""
        return list(self._saved)

    @property
    def num_episodes(self) -> int:
        return self._info["total_episodes"]

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the final stats.json. The data set is whole without it, only its stored statistics lag behind."""
        if self._frames_in_stats != self._info["total_frames"]:
            self._write_statistics()
        self._lock.release()

    def add(self, trajectory: Trajectory, instruction: str, *, source: Mapping[str, Any]) -> int:
        """Save one episode and return its index; once this returns it survives anything but the disk.

        source: how the episode came about (task, seed, success, noise, ...), plain JSON, handed out again by `saved`.
        Raises ConfigError if the episode does not belong here, OSError if the disk is full.
        """
        episode, start, length = self.num_episodes, self._info["total_frames"], len(trajectory.actions)
        check_trajectory(trajectory, self.spec, episode)
        place = layout.place(episode)
        tasks = self._tasks if instruction in self._tasks else [*self._tasks, instruction]
        numbers = self._columns(trajectory, tasks.index(instruction))
        pixels = {camera.name: pixel_counts(trajectory.images[camera.name]) for camera in self.spec.cameras}
        files, pictures, row = self._encode(trajectory, place)
        row |= {
            "episode_index": episode,
            "tasks": [instruction],
            "length": length,
            "dataset_from_index": start,
            "dataset_to_index": start + length,
            **{f"{kind}/{key}": value for kind in ("data", "meta/episodes") for key, value in place.items()},
            **{layout.HISTOGRAM + camera: counts.ravel().tolist() for camera, counts in pixels.items()},
            layout.SOURCE: json.dumps(dict(source)),
        }
        for key, summary in _summaries(numbers, pixels, length).items():
            row |= {f"stats/{key}/{name}": value for name, value in summary.items()}
        info = self._info | {
            "total_episodes": episode + 1,
            "total_frames": start + length,
            "total_tasks": len(tasks),
            "splits": {"train": f"0:{episode + 1}"},
        }
        files[self.root / layout.EPISODES.format(**place)] = _parquet(pa.Table.from_pylist([row]))
        if tasks is not self._tasks:
            files[self.root / layout.TASKS] = _tasks_file(tasks)
        # Rows without an episode would confuse lerobot, so they come late; info.json makes the episode exist.
        files[self.root / layout.DATA.format(**place)] = _data_file(self._info["features"], numbers, pictures)
        files[self.root / layout.INFO] = _json(info)
        write_files(files)
        self._info, self._tasks = info, tasks
        self._remember(numbers, pixels, source)
        if info["total_frames"] >= STATS_GROWTH * self._frames_in_stats:
            self._write_statistics()
        return episode

    def _columns(self, trajectory: Trajectory, task: int) -> dict[str, np.ndarray]:
        """Every numeric feature of an episode as [t d]."""
        frame = np.arange(len(trajectory.actions))
        columns = {
            layout.STATE: trajectory.proprioception,
            layout.ACTION: trajectory.actions,
            layout.EXECUTED: trajectory.executed,
            layout.REWARD: trajectory.rewards,
            "timestamp": frame / self._info["fps"],
            "frame_index": frame,
            "episode_index": np.full_like(frame, self.num_episodes),
            "index": self._info["total_frames"] + frame,
            "task_index": np.full_like(frame, task),
        }
        features = self._info["features"]
        return {
            key: values.reshape(len(frame), -1).astype(features[key]["dtype"])
            for key, values in columns.items()
            if key in features
        }

    def _encode(
        self, trajectory: Trajectory, place: Mapping[str, int]
    ) -> tuple[dict[Path, bytes], dict[str, list[bytes]], dict[str, Any]]:
        """Video files, PNGs by feature, and what the episode's row says about the videos."""
        files, pictures, row = {}, {}, {}
        fps = self._info["fps"]
        for camera in self.spec.cameras:
            key, frames = layout.image_key(camera.name), trajectory.images[camera.name]
            if self._info["features"][key]["dtype"] == "image":
                pictures[key] = [_png(frame) for frame in frames]
                continue
            video = encode_video(frames, fps)
            files[self.root / layout.VIDEO.format(video_key=key, **place)] = video
            row |= {f"videos/{key}/{name}": value for name, value in place.items()}
            row |= {f"videos/{key}/from_timestamp": 0.0, f"videos/{key}/to_timestamp": len(frames) / fps}
            row[layout.CHECKSUM + key] = zlib.crc32(video)
        return files, pictures, row

    def _remember(
        self, numbers: Mapping[str, np.ndarray], pixels: Mapping[str, np.ndarray], source: Mapping[str, Any]
    ) -> None:
        for key, values in numbers.items():
            self._numbers[key].append(values)
        for camera, counts in pixels.items():
            self._pixels[camera] += counts
        self._saved.append(json.loads(json.dumps(dict(source))))

    def _write_statistics(self) -> None:
        numbers = {key: np.concatenate(parts) for key, parts in self._numbers.items()}
        statistics = _summaries(numbers, self._pixels, self._info["total_frames"])
        write_files({self.root / layout.STATS: _json(statistics)})
        self._frames_in_stats = self._info["total_frames"]

    def _remove_unfinished(self) -> None:
        """What a killed writer left: temporary files, and files in place whose episode was never declared."""
        finished = set()
        for episode in range(self.num_episodes):
            place = layout.place(episode)
            finished |= {layout.DATA.format(**place), layout.EPISODES.format(**place)}
            finished |= {layout.VIDEO.format(video_key=key, **place) for key in self._info["features"]}
        for folder, ending in (("data", ".parquet"), ("meta/episodes", ".parquet"), ("videos", ".mp4"), ("meta", "")):
            for path in (self.root / folder).rglob("*"):
                inside = path.relative_to(self.root).as_posix()
                unfinished = bool(ending) and path.suffix == ending and inside not in finished
                if path.is_file() and (path.suffix == TEMPORARY or unfinished):
                    path.unlink()

    def _restore(self) -> None:
        """Read back what statistics and `saved` need. Raises ConfigError naming a file that is missing or damaged."""
        if not self.num_episodes:
            return
        self._tasks = _read_table(self.root / layout.TASKS).sort_by("task_index")["task"].to_pylist()
        self._tasks = self._tasks[: self._info["total_tasks"]]
        for episode in range(self.num_episodes):
            place = layout.place(episode)
            table = _read_table(self.root / layout.DATA.format(**place), list(self._numbers))
            row = _read_table(self.root / layout.EPISODES.format(**place)).to_pylist()[0]
            numbers = {key: _matrix(table[key]) for key in self._numbers}
            pixels = {camera: np.reshape(row[layout.HISTOGRAM + camera], (3, 256)) for camera in self._pixels}
            self._remember(numbers, pixels, json.loads(row[layout.SOURCE]))


def _read_existing(root: Path, new: Mapping[str, Any], *, resume: bool) -> dict[str, Any] | None:
    """The info.json to go on from, None for a new folder. ConfigError if `root` is taken by anything else."""
    path = root / layout.INFO
    if root.exists() and not root.is_dir():
        raise ConfigError(f"{root} is a file; give a folder for the data set.")
    if not path.exists():
        strangers = [file for file in root.rglob("*") if file.is_file() and file.parent != root / "meta"]
        if strangers:
            raise ConfigError(f"{root} holds files but no data set (no {layout.INFO}); choose another folder.")
        return None
    if not resume:
        raise ConfigError(f"{root} already holds a data set; resume it or choose another folder.")
    try:
        existing = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is corrupt: {error}.") from error
    if layout.EXTENSION not in existing:
        raise ConfigError(f"{root} is a data set that volar did not record; choose another folder.")
    if different := differences(new, existing):
        raise ConfigError(f"{root} is another recording; choose another folder:\n  " + "\n  ".join(different))
    return existing


def _summaries(
    numbers: Mapping[str, np.ndarray], pixels: Mapping[str, np.ndarray], num_frames: int
) -> dict[str, dict[str, Any]]:
    """stats.json of these rows."""
    images = {layout.image_key(camera): summarize_pixels(counts, num_frames) for camera, counts in pixels.items()}
    return images | {key: summarize(values) for key, values in numbers.items()}


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, indent=4, ensure_ascii=False).encode()


def _png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _parquet(table: pa.Table) -> bytes:
    """One row group, snappy, and a checksum in every page so that damage is noticed when it is read."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=max(len(table), 1), write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def _data_file(
    features: Mapping[str, Any], numbers: Mapping[str, np.ndarray], pictures: Mapping[str, list[bytes]]
) -> bytes:
    """An episode's rows in the order of `features`, with the schema that Hugging Face `datasets` expects."""
    arrays: dict[str, pa.Array] = {}
    schema: dict[str, Any] = {}
    for key, feature in features.items():
        if key in pictures:
            paths = [f"frame-{index:06d}.png" for index in range(len(pictures[key]))]
            arrays[key] = pa.StructArray.from_arrays(
                [pa.array(pictures[key], pa.binary()), pa.array(paths, pa.string())], ["bytes", "path"]
            )
            schema[key] = {"_type": "Image"}
        elif key in numbers:
            size, value = feature["shape"][0], {"dtype": feature["dtype"], "_type": "Value"}
            flat = pa.array(numbers[key].ravel())
            arrays[key] = flat if size == 1 else pa.FixedSizeListArray.from_arrays(flat, size)
            schema[key] = value if size == 1 else {"feature": value, "length": size, "_type": "List"}
    metadata = {"huggingface": json.dumps({"info": {"features": schema}})}
    return _parquet(pa.table(arrays).replace_schema_metadata(metadata))


def _tasks_file(tasks: list[str]) -> bytes:
    """The table as pandas writes it: the instruction is the index."""

    def column(name: str | None, numpy_type: str, pandas_type: str) -> dict[str, Any]:
        return {"name": name, "field_name": name, "pandas_type": pandas_type, "numpy_type": numpy_type,
                "metadata": None}  # fmt: skip

    pandas = {
        "index_columns": ["task"],
        "column_indexes": [column(None, "object", "unicode")],
        "columns": [column("task_index", "int64", "int64"), column("task", "object", "unicode")],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.3.3",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    return _parquet(table.replace_schema_metadata({"pandas": json.dumps(pandas)}))


def _read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns=columns)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigError(f"{path} is missing, truncated or corrupt: {error}.") from error


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A numeric column as [n d]."""
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
    return array.to_numpy(zero_copy_only=False).reshape(-1, 1)
