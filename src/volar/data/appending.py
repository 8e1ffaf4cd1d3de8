"""Adds episodes of any features to a LeRobot v3.0 data set, each safe once `append` has returned.

One file of every kind per episode, so that no finished file is ever touched again; `meta/info.json`, replaced last,
is what makes an episode exist. Torch-free. Neither makes the pictures' bytes (that is `writer.py` for a recording,
`rewrite.py` for another data set) nor reads other people's data sets.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, Shaped

from volar.core.atomic import TEMPORARY, FolderLock, write_files
from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.language import LanguageRows
from volar.data.pictures import coding_of
from volar.data.recording import differences
from volar.data.summaries import summarize_pixels, summarize_together

# stats.json is renewed when the data have doubled, so that its cost per episode is constant
STATS_GROWTH = 2
ASSIGNED = ("episode_index", "index", "task_index")  # columns that depend on the data set, not on the episode


@dataclass(frozen=True, kw_only=True)
class StoredPictures:
    """One camera's pictures of an episode as they will lie on disk: an mp4, or one PNG or JPEG a frame.

    pixels: how often each brightness occurs in each channel, see `pixel_counts`.
    """

    content: bytes | Sequence[bytes]
    pixels: Int64[np.ndarray, "3 256"]


@dataclass(frozen=True, kw_only=True)
class EpisodeContent:
    """One episode. numbers: numeric feature -> [t d] in its declared dtype, without the columns in `ASSIGNED`.
    pictures: by feature. instructions: of every frame. source: how the episode came about, plain JSON. language:
    labels, where the features declare the columns for them."""

    numbers: Mapping[str, Shaped[np.ndarray, "t _"]]
    pictures: Mapping[str, StoredPictures]
    instructions: Sequence[str]
    source: Mapping[str, Any]
    language: LanguageRows | None = None


class EpisodeAppender:
    """A data set that grows. info: what it declares, see `recording.declare`. resume: go on with what `root` holds, if
    anything. Raises ConfigError if `root` holds something else, and lists every point on which the two differ."""

    def __init__(self, root: Path, info: Mapping[str, Any], *, resume: bool) -> None:
        self.root, self.info = Path(root), dict(info)
        existing = _read_existing(self.root, self.info, resume=resume)
        self._tasks: list[str] = []
        self._saved: list[dict[str, Any]] = []
        features = self.info["features"]
        images = [key for key, value in features.items() if value["dtype"] in ("video", "image")]
        self._numbers: dict[str, list[np.ndarray]] = {
            key: [] for key in features if key not in (*images, *layout.LANGUAGE)
        }
        self._pixels = {key: np.zeros((3, 256), np.int64) for key in images}
        self._frames_in_stats = 0
        self._lock = FolderLock(self.root / "meta")
        if existing is None:
            write_files({self.root / layout.INFO: _json(self.info)})
        else:
            self.info = existing
            self._remove_unfinished()
            self._restore()

    @property
    def saved(self) -> list[dict[str, Any]]:
        """The `source` of every saved episode, in order."""
        return list(self._saved)

    @property
    def num_episodes(self) -> int:
        return self.info["total_episodes"]

    def close(self) -> None:
        """Write the final stats.json. The data set is whole without it, only its stored statistics lag behind."""
        if self._frames_in_stats != self.info["total_frames"]:
            self._write_statistics()
        self._lock.release()

    def append(self, content: EpisodeContent) -> int:
        """Save one episode and return its index; once this returns it survives anything but the disk.

        Raises ConfigError if its source is no plain JSON, OSError if the disk is full; nothing is saved then.
        """
        episode, start, length = self.num_episodes, self.info["total_frames"], len(content.instructions)
        place = layout.place(episode)
        tasks = list(dict.fromkeys([*self._tasks, *content.instructions]))
        numbers = self._columns(content, tasks)
        pixels = {key: pictures.pixels for key, pictures in content.pictures.items()}
        files, row = self._videos(content, place)
        row |= {
            "episode_index": episode,
            "tasks": list(dict.fromkeys(content.instructions)),
            "length": length,
            "dataset_from_index": start,
            "dataset_to_index": start + length,
            **{f"{kind}/{key}": value for kind in ("data", "meta/episodes") for key, value in place.items()},
            **{layout.HISTOGRAM + layout.camera_name(key): pixels[key].ravel().tolist() for key in pixels},
            layout.SOURCE: json.dumps(dict(content.source)),
        }
        for key, summary in _summaries(numbers, pixels, length).items():
            row |= {f"stats/{key}/{name}": value for name, value in summary.items()}
        info = self.info | {
            "total_episodes": episode + 1,
            "total_frames": start + length,
            "total_tasks": len(tasks),
            "splits": {"train": f"0:{episode + 1}"},
        }
        files[self.root / layout.EPISODES.format(**place)] = _parquet(pa.Table.from_pylist([row]))
        if tasks != self._tasks:
            files[self.root / layout.TASKS] = _tasks_file(tasks)
        # Rows without an episode would confuse lerobot, so they come late; info.json makes the episode exist.
        files[self.root / layout.DATA.format(**place)] = _data_file(self.info["features"], numbers, content)
        files[self.root / layout.INFO] = _json(info)
        write_files(files)
        self.info, self._tasks = info, tasks
        self._remember(numbers, pixels, content.source)
        if info["total_frames"] >= STATS_GROWTH * self._frames_in_stats:
            self._write_statistics()
        return episode

    def _columns(self, content: EpisodeContent, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        """Every numeric feature of an episode as [t d], in the order declared."""
        length = len(content.instructions)
        task_of = {task: index for index, task in enumerate(tasks)}
        assigned = {
            "episode_index": np.full(length, self.num_episodes),
            "index": self.info["total_frames"] + np.arange(length),
            "task_index": np.array([task_of[instruction] for instruction in content.instructions]),
        }
        columns = {**content.numbers, **assigned}
        features = self.info["features"]
        return {
            key: columns[key].reshape(length, -1).astype(features[key]["dtype"], copy=False) for key in self._numbers
        }

    def _videos(self, content: EpisodeContent, place: Mapping[str, int]) -> tuple[dict[Path, bytes], dict[str, Any]]:
        """Video files, and what the episode's row says about them."""
        files, row = {}, {}
        for key, pictures in content.pictures.items():
            if isinstance(pictures.content, bytes):
                files[self.root / layout.VIDEO.format(video_key=key, **place)] = pictures.content
                end = len(content.instructions) / self.info["fps"]
                row |= {f"videos/{key}/{name}": value for name, value in place.items()}
                row |= {f"videos/{key}/from_timestamp": 0.0, f"videos/{key}/to_timestamp": end}
                row[layout.CHECKSUM + key] = zlib.crc32(pictures.content)
        return files, row

    def _remember(
        self, numbers: Mapping[str, np.ndarray], pixels: Mapping[str, np.ndarray], source: Mapping[str, Any]
    ) -> None:
        for key, values in numbers.items():
            self._numbers[key].append(values)
        for key, counts in pixels.items():
            self._pixels[key] += counts
        self._saved.append(json.loads(json.dumps(dict(source))))

    def _write_statistics(self) -> None:
        numbers = {key: np.concatenate(parts) for key, parts in self._numbers.items()}
        statistics = _summaries(numbers, self._pixels, self.info["total_frames"])
        write_files({self.root / layout.STATS: _json(statistics)})
        self._frames_in_stats = self.info["total_frames"]

    def _remove_unfinished(self) -> None:
        """What a killed writer left: temporary files, and files in place whose episode was never declared."""
        finished = set()
        for episode in range(self.num_episodes):
            place = layout.place(episode)
            finished |= {layout.DATA.format(**place), layout.EPISODES.format(**place)}
            finished |= {layout.VIDEO.format(video_key=key, **place) for key in self.info["features"]}
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
        self._tasks = self._tasks[: self.info["total_tasks"]]
        for episode in range(self.num_episodes):
            place = layout.place(episode)
            table = _read_table(self.root / layout.DATA.format(**place), list(self._numbers))
            row = _read_table(self.root / layout.EPISODES.format(**place)).to_pylist()[0]
            numbers = {key: _matrix(table[key]) for key in self._numbers}
            pixels = {
                key: np.reshape(row[layout.HISTOGRAM + layout.camera_name(key)], (3, 256)) for key in self._pixels
            }
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
    images = {key: summarize_pixels(counts, num_frames) for key, counts in pixels.items()}
    return images | summarize_together(numbers)


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, indent=4, ensure_ascii=False).encode()


def _parquet(table: pa.Table) -> bytes:
    """One row group, snappy, and a checksum in every page so that damage is noticed when it is read."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=max(len(table), 1), write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def _data_file(features: Mapping[str, Any], numbers: Mapping[str, np.ndarray], content: EpisodeContent) -> bytes:
    """An episode's rows in the order of `features`, with the schema that Hugging Face `datasets` expects."""
    arrays: dict[str, pa.Array] = {}
    schema: dict[str, Any] = {}
    for key, feature in features.items():
        if key in numbers:
            arrays[key], schema[key] = _number_column(numbers[key], feature)
        elif key in layout.LANGUAGE:
            assert content.language is not None
            arrays[key], schema[key] = _language_column(key, content.language)
        elif not isinstance(cells := content.pictures[key].content, bytes):
            paths = [f"frame-{index:06d}.{coding_of(cell)}" for index, cell in enumerate(cells)]
            arrays[key] = pa.StructArray.from_arrays(
                [pa.array(cells, pa.binary()), pa.array(paths, pa.string())], ["bytes", "path"]
            )
            schema[key] = {"_type": "Image"}
    metadata = {"huggingface": json.dumps({"info": {"features": schema}})}
    return _parquet(pa.table(arrays).replace_schema_metadata(metadata))


def _number_column(values: np.ndarray, feature: Mapping[str, Any]) -> tuple[pa.Array, dict[str, Any]]:
    """The column of [t d] numbers and its type in `datasets`: a plain value, a vector, or an array of two axes and
    more, which are nested lists."""
    shape, value = feature["shape"], {"dtype": feature["dtype"], "_type": "Value"}
    column = pa.array(values.ravel())
    if shape == [1]:
        return column, value
    for size in reversed(shape):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    if len(shape) == 1:
        return column, {"feature": value, "length": shape[0], "_type": "List"}
    return column, {"shape": list(shape), "dtype": feature["dtype"], "_type": f"Array{len(shape)}D"}


def _language_column(key: str, rows: LanguageRows) -> tuple[pa.Array, dict[str, Any]]:
    """As lerobot declares it: lists of rows, of which only those that last have a timestamp."""
    lasts = key == layout.PERSISTENT
    time = {"timestamp": "float32"} if lasts else {}
    kinds = {"role": "string", "content": "string", "style": "string", **time, "camera": "string"}
    lists = [rows.lasting] if lasts else rows.events
    flat = [row for found in lists for row in found]
    columns = [pa.array([row[name] for row in flat], kind) for name, kind in kinds.items()]
    fields = [pa.field(name, kind, nullable=name not in ("role", "timestamp")) for name, kind in kinds.items()]
    calls = _json_lists([row["tool_calls"] for row in flat])
    struct = pa.StructArray.from_arrays([*columns, calls], fields=[*fields, pa.field("tool_calls", calls.type)])
    bounds = np.cumsum([0, *map(len, lists)], dtype=np.int32)
    column = pa.ListArray.from_arrays(pa.array(bounds), struct)
    if lasts:
        column = column.take(pa.array(np.zeros(len(rows.events), np.int64)))
    schema: dict[str, Any] = {name: {"dtype": kind, "_type": "Value"} for name, kind in kinds.items()}
    schema["tool_calls"] = {"feature": {"_type": "Json"}, "_type": "List"}
    return column, {"feature": schema, "_type": "List"}


def _json_lists(lists: Sequence[Sequence[str] | None]) -> pa.ListArray:
    """pyarrow makes its JSON type of ready texts only."""
    texts = pa.array(lists, pa.list_(pa.string()))
    values = pa.ExtensionArray.from_storage(pa.json_(), texts.values)
    return pa.ListArray.from_arrays(texts.offsets, values, mask=texts.is_null())


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
    length = len(array)
    while pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    return array.to_numpy(zero_copy_only=False).reshape(length, -1)
