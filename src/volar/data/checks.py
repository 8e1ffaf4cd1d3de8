"""What a LeRobot v3.0 data set must fulfil before anything is computed from it, and how a failure is told."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from volar.core.errors import ConfigError
from volar.core.robot import Camera, RobotSpec
from volar.data import layout


def read_info(root: Path) -> dict[str, Any]:
    """info.json, or a ConfigError if there is none, it is damaged, of another version, or no episode was saved yet."""
    path = root / layout.INFO
    if not path.is_file():
        found = "the folder does not exist" if not root.exists() else f"there is no {layout.INFO}"
        raise ConfigError(f"No LeRobot data set at {root}: {found}.")
    try:
        info = json.loads(path.read_text())
        version = str(info.get("codebase_version"))
        if not version.startswith("v3."):
            raise ConfigError(
                f"{root} is a LeRobot data set of version {version}; volar reads v3.0. Convert it with "
                f"`python -m lerobot.datasets.v30.convert_dataset_v21_to_v30`."
            )
        needed = {"fps", "features", "total_episodes", "total_frames", "data_path"}
        if missing := sorted(needed - info.keys()):
            raise ConfigError(f"{path} lacks {missing}; it is no complete v3.0 data set.")
    except ConfigError:
        raise
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{path} is corrupt: {error}.") from error
    counts_ok = isinstance(info["total_episodes"], int) and isinstance(info["total_frames"], int)
    if not counts_ok or not isinstance(info["features"], dict):
        raise ConfigError(f"{path}: total_episodes and total_frames must be numbers, features a mapping.")
    for key, feature in info["features"].items():
        _check_feature(path, key, feature)
    kinds = {feature["dtype"] for feature in info["features"].values()}
    for name in ("data_path", "video_path") if "video" in kinds else ("data_path",):
        try:
            info[name].format(video_key="", chunk_index=0, file_index=0)
        except (KeyError, ValueError, AttributeError, IndexError) as error:
            raise ConfigError(f"{path}: {name} is damaged, got {info.get(name)!r}.") from error
    if not (isinstance(info["fps"], int | float) and info["fps"] > 0):
        raise ConfigError(f"{path}: fps must be a positive number of frames a second, got {info['fps']!r}.")
    if info["total_episodes"] < 1:
        raise ConfigError(f"{root} holds no episodes yet.")
    return info


def _check_feature(path: Path, key: str, feature: Any) -> None:
    shape = feature.get("shape") if isinstance(feature, dict) else None
    if not (isinstance(shape, list) and shape and all(isinstance(side, int) and side > 0 for side in shape)):
        raise ConfigError(f"{path}: feature {key!r} must have a shape of positive whole numbers, got {shape!r}.")
    kind = feature.get("dtype")
    if not isinstance(kind, str):
        raise ConfigError(f"{path}: feature {key!r} has no dtype.")
    if kind in ("video", "image") and len(shape) != 3:
        raise ConfigError(f"{path}: the pictures {key!r} must be [height, width, channels], got {shape}.")


@dataclass(frozen=True, kw_only=True)
class Extension:
    """What volar's recorder declared: what the numbers mean, and facts of the recording."""

    spec: RobotSpec | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_extension(info: Mapping[str, Any], root: Path) -> Extension:
    """volar's block in info.json; empty if another program wrote the data set. ConfigError if it is damaged."""
    block = info.get(layout.EXTENSION)
    if block is None:
        return Extension()
    path = root / layout.INFO
    try:
        if block["crc32"] != layout.checksum(block):
            raise ConfigError(
                f"{path}: the block {layout.EXTENSION!r} is not what was recorded (checksum differs). Restore the "
                f"file; if the change was meant, set its crc32 to {layout.checksum(block)}."
            )
        return Extension(spec=RobotSpec.from_json(block["spec"]), facts=dict(block["extra"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: the block {layout.EXTENSION!r} is damaged: {error!r}.") from error


def check_spec(spec: RobotSpec, cameras: Sequence[Camera], features: Mapping[str, Any], root: Path) -> None:
    """The features are those of the robot that the recorder declared."""
    wanted = {camera.name: (camera.height, camera.width) for camera in spec.cameras}
    found = {camera.name: (camera.height, camera.width) for camera in cameras}
    width = features.get(layout.ACTION, {}).get("shape")
    if wanted != found or width != [spec.action.dim]:
        raise ConfigError(
            f"{root / layout.INFO} contradicts itself: the robot has cameras {wanted} and {spec.action.dim} action "
            f"dimensions, the features have cameras {found} and actions {width}. Restore the file."
        )


def require_columns(features: Mapping[str, Any], columns: Sequence[str], path: Path) -> None:
    """Every declared number and embedded picture is in the data file; text and unknown kinds are left alone."""
    for key, feature in features.items():
        kept_here = feature["dtype"] == "image" or re.fullmatch(r"u?int\d+|float\d+|bool", feature["dtype"])
        if kept_here and key not in columns:
            raise ConfigError(f"{path} lacks the column {key!r} that info.json declares; they do not belong together.")


def check_rows(rows: Sequence[Mapping[str, Any]], info: Mapping[str, Any], root: Path) -> list[dict[str, Any]]:
    """The declared episodes in order. A row beyond `total_episodes` is a recording cut short, and left out."""
    count = info["total_episodes"]
    videos = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    needed = {"episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index"}
    needed |= {"data/chunk_index", "data/file_index"}
    needed |= {f"videos/{key}/{name}" for key in videos for name in ("chunk_index", "file_index", "from_timestamp")}
    for row in rows:
        if absent := sorted(key for key in needed if row.get(key) is None):
            raise ConfigError(f"{root}: meta/episodes lacks {absent} (episode {row.get('episode_index')}).")
    kept = sorted((dict(row) for row in rows if row["episode_index"] < count), key=lambda row: row["episode_index"])
    if [row["episode_index"] for row in kept] != list(range(count)):
        raise ConfigError(f"{root}: info.json counts {count} episodes, meta/episodes lists {len(kept)} of them.")
    end = 0
    for row in kept:
        start, stop = row["dataset_from_index"], row["dataset_to_index"]
        if start != end or stop - start != row["length"] or stop <= start:
            raise ConfigError(
                f"{root}: episode {row['episode_index']} claims rows {start} to {stop} and length {row['length']}, "
                f"but the one before ends at {end}; meta/episodes is damaged."
            )
        end = stop
    if end != info["total_frames"]:
        raise ConfigError(f"{root}: info.json counts {info['total_frames']} frames, the episodes have {end}.")
    return kept


def check_numbers(
    arrays: Mapping[str, np.ndarray], rows: Sequence[Mapping[str, Any]], info: Mapping[str, Any], root: Path,
    *, num_tasks: int,
) -> None:  # fmt: skip
    """The columns are there, as wide as declared, finite, and agree with the episode table and the frame rate."""
    total, features = info["total_frames"], info["features"]
    if missing := sorted(layout.BOOKKEEPING.keys() - arrays.keys()):
        raise ConfigError(f"{root}: the data files lack the column(s) {missing}.")
    for name, values in arrays.items():
        width = int(np.prod(features[name]["shape"]))
        if len(values) < total:
            raise ConfigError(f"{root}: {total} frames are declared, the data files hold {len(values)}; copy it again.")
        if values.reshape(total, -1).shape[1] != width:
            raise ConfigError(
                f"{root}: {name!r} has {values.reshape(total, -1).shape[1]} numbers a row, {width} are declared."
            )
    lengths = [row["length"] for row in rows]
    starts = np.repeat([row["dataset_from_index"] for row in rows], lengths)
    expected = {
        "index": np.arange(total),
        "episode_index": np.repeat(np.arange(len(rows)), lengths),
        "frame_index": np.arange(total) - starts,
    }
    for name, values in expected.items():
        wrong = np.flatnonzero(arrays[name] != values)
        if len(wrong):
            raise ConfigError(
                f"{root}: row {wrong[0]} has {name} {arrays[name][wrong[0]]}, by the episode table it is "
                f"{values[wrong[0]]}; data and meta/episodes do not belong together."
            )
    if arrays["task_index"].min() < 0 or arrays["task_index"].max() >= num_tasks:
        raise ConfigError(f"{root}: task_index goes to {arrays['task_index'].max()}, there are {num_tasks} tasks.")
    _check_clock(arrays, float(info["fps"]), root)
    _check_finite(arrays, root)


def _check_clock(arrays: Mapping[str, np.ndarray], fps: float, root: Path) -> None:
    """Timestamps are float32, so long episodes are allowed its rounding."""
    due = arrays["frame_index"] / fps
    off = np.abs(arrays["timestamp"] - due)
    wrong = np.flatnonzero(off > 0.05 / fps + 1e-6 * due)
    if len(wrong):
        row = int(wrong[0])
        raise ConfigError(
            f"{root}: episode {arrays['episode_index'][row]} has time {arrays['timestamp'][row]:.4f} s at frame "
            f"{arrays['frame_index'][row]}, which at {fps:g} frames a second is due at {due[row]:.4f} s. "
            f"The declared fps is wrong, or frames were dropped."
        )


def _check_finite(arrays: Mapping[str, np.ndarray], root: Path) -> None:
    for name, values in arrays.items():
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)
        if bad.any():
            episodes = np.unique(arrays["episode_index"][bad]).tolist()
            raise ConfigError(
                f"{root}: {name!r} is not finite (NaN or infinite) in episode(s) {episodes}, first at row "
                f"{int(np.flatnonzero(bad)[0])}; repair or remove these episodes."
            )
