"""What a data set must fulfil before anything is computed from it, and how a failure is told."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from jaxtyping import Int

from volar.core.errors import ConfigError
from volar.core.robot import Camera, RobotSpec
from volar.data import layout
from volar.data.episodes import EpisodeTable
from volar.data.store import Store

MAX_SIDE: Final = 16_384  # pixels; a larger picture is a damaged declaration


def read_info(store: Store) -> dict[str, Any]:
    """info.json of any version, or a ConfigError if it is damaged or no episode was saved yet."""
    path = store.place(layout.INFO)
    try:
        info = json.loads(store.text(layout.INFO))
        needed = {"codebase_version", "fps", "features", "total_episodes", "total_frames", "data_path"}
        if missing := sorted(needed - info.keys()):
            raise ConfigError(f"{path} lacks {missing}; it is no complete data set.")
    except (ValueError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is corrupt: {error}.") from error
    counts_ok = isinstance(info["total_episodes"], int) and isinstance(info["total_frames"], int)
    if not counts_ok or not isinstance(info["features"], dict):
        raise ConfigError(f"{path}: total_episodes and total_frames must be numbers, features a mapping.")
    for key, feature in info["features"].items():
        _check_feature(path, key, feature)
    kinds = {feature["dtype"] for feature in info["features"].values()}
    for name in ("data_path", "video_path") if "video" in kinds else ("data_path",):
        if not (isinstance(info.get(name), str) and re.fullmatch(_template(info), info[name])):
            raise ConfigError(f"{path}: {name} is damaged, got {info.get(name)!r}.")
    if not (isinstance(info["fps"], int | float) and 0 < info["fps"] < 1e6):
        raise ConfigError(f"{path}: fps must be a positive number of frames a second, got {info['fps']!r}.")
    if info["total_episodes"] < 1:
        raise ConfigError(f"{store.root} holds no episodes yet.")
    return info


def _template(info: Mapping[str, Any]) -> str:
    """A path in which known numbers are padded by at most two digits: nothing else is ever formatted."""
    numbers = "chunk_index|file_index" if str(info["codebase_version"]) >= "v3" else "episode_chunk|episode_index"
    return r"(?:[^{}]|\{video_key\}|\{(?:" + numbers + r")(?::0?\d{0,2}d)?\})+"


def _check_feature(path: str, key: str, feature: Any) -> None:
    shape = feature.get("shape") if isinstance(feature, dict) else None
    if not (isinstance(shape, list) and shape and all(isinstance(side, int) and side > 0 for side in shape)):
        raise ConfigError(f"{path}: feature {key!r} must have a shape of positive whole numbers, got {shape!r}.")
    kind = feature.get("dtype")
    if not isinstance(kind, str):
        raise ConfigError(f"{path}: feature {key!r} has no dtype.")
    if kind in ("video", "image") and (len(shape) != 3 or max(shape) > MAX_SIDE):
        raise ConfigError(
            f"{path}: the pictures {key!r} must be [height, width, channels] with sides of at most {MAX_SIDE} pixels, "
            f"got {shape}."
        )


@dataclass(frozen=True, kw_only=True)
class Extension:
    """What volar's recorder declared: what the numbers mean, and facts of the recording."""

    spec: RobotSpec | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_extension(info: Mapping[str, Any], store: Store) -> Extension:
    """volar's block in info.json; empty if another program wrote the data set. ConfigError if it is damaged."""
    block = info.get(layout.EXTENSION)
    if block is None:
        return Extension()
    path = store.place(layout.INFO)
    try:
        if block["crc32"] != layout.checksum(block):
            raise ConfigError(
                f"{path}: the block {layout.EXTENSION!r} is not what was recorded (checksum differs). Restore the "
                f"file; if the change was meant, set its crc32 to {layout.checksum(block)}."
            )
        spec = None if block["spec"] is None else RobotSpec.from_json(block["spec"])  # None: nobody has said it
        return Extension(spec=spec, facts=dict(block["extra"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: the block {layout.EXTENSION!r} is damaged: {error!r}.") from error


def check_spec(spec: RobotSpec, cameras: Sequence[Camera], features: Mapping[str, Any], store: Store) -> None:
    """The features are those of the robot that the recorder declared."""
    wanted = {camera.name: (camera.height, camera.width) for camera in spec.cameras}
    found = {camera.name: (camera.height, camera.width) for camera in cameras}
    width = features.get(layout.ACTION, {}).get("shape")
    if wanted != found or width != [spec.action.dim]:
        raise ConfigError(
            f"{store.place(layout.INFO)} contradicts itself: the robot has cameras {wanted} and {spec.action.dim} "
            f"action dimensions, the features have cameras {found} and actions {width}. Restore the file."
        )


def check_counts(lengths: Int[np.ndarray, " e"], info: Mapping[str, Any], root: str) -> None:
    """Every episode has frames, and info.json counts as many of both as there are."""
    if len(lengths) != info["total_episodes"]:
        raise ConfigError(f"{root}: info.json counts {info['total_episodes']} episodes, there are {len(lengths)}.")
    if (short := np.flatnonzero(lengths < 1)).size:
        raise ConfigError(f"{root}: episode {short[0]} claims {lengths[short[0]]} frames; its metadata are damaged.")
    if lengths.sum() != info["total_frames"]:
        raise ConfigError(f"{root}: info.json counts {info['total_frames']} frames, the episodes have {lengths.sum()}.")


def check_numbers(
    arrays: Mapping[str, np.ndarray], table: EpisodeTable, episodes: range, features: Mapping[str, Mapping[str, Any]],
    *, fps: float, num_tasks: int, where: str,
) -> None:  # fmt: skip
    """The columns of some episodes are there, as wide as declared, finite, and agree with table and frame rate."""
    if missing := sorted(layout.BOOKKEEPING.keys() - arrays.keys()):
        raise ConfigError(f"{where}: the data files lack the column(s) {missing}.")
    start, stop = table.bounds[[episodes.start, episodes.stop]]
    for name, values in arrays.items():
        width = math.prod(features[name]["shape"])
        if len(values) != stop - start:
            raise ConfigError(
                f"{where}: rows {start} to {stop} are declared, {len(values)} of {name!r} are there; copy it again."
            )
        if values.reshape(len(values), -1).shape[1] != width:
            raise ConfigError(
                f"{where}: {name!r} has {values.reshape(len(values), -1).shape[1]} numbers a row, {width} are declared."
            )
    lengths = np.diff(table.bounds[episodes.start : episodes.stop + 1])
    expected = {
        "index": np.arange(start, stop),
        "episode_index": np.repeat(np.arange(episodes.start, episodes.stop), lengths),
        "frame_index": np.arange(start, stop) - np.repeat(table.bounds[episodes.start : episodes.stop], lengths),
    }
    for name, values in expected.items():
        wrong = np.flatnonzero(arrays[name] != values)
        if len(wrong):
            raise ConfigError(
                f"{where}: row {start + wrong[0]} has {name} {arrays[name][wrong[0]]}, by the episode table it is "
                f"{values[wrong[0]]}; data and table do not belong together."
            )
    if arrays["task_index"].min() < 0 or arrays["task_index"].max() >= num_tasks:
        raise ConfigError(f"{where}: task_index goes to {arrays['task_index'].max()}, there are {num_tasks} tasks.")
    _check_clock(arrays, fps, where)
    _check_finite(arrays, where)


def _check_clock(arrays: Mapping[str, np.ndarray], fps: float, where: str) -> None:
    """Timestamps are float32, so long episodes are allowed its rounding."""
    due = arrays["frame_index"] / fps
    off = np.abs(arrays["timestamp"] - due)
    wrong = np.flatnonzero(off > 0.05 / fps + 1e-6 * due)
    if len(wrong):
        row = int(wrong[0])
        raise ConfigError(
            f"{where}: episode {arrays['episode_index'][row]} has time {arrays['timestamp'][row]:.4f} s at frame "
            f"{arrays['frame_index'][row]}, which at {fps:g} frames a second is due at {due[row]:.4f} s. "
            f"The declared fps is wrong, or frames were dropped."
        )


def _check_finite(arrays: Mapping[str, np.ndarray], where: str) -> None:
    for name, values in arrays.items():
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)
        if bad.any():
            episodes = np.unique(arrays["episode_index"][bad]).tolist()
            raise ConfigError(
                f"{where}: {name!r} is not finite (NaN or infinite) in episode(s) {episodes}, first at row "
                f"{arrays['index'][np.flatnonzero(bad)[0]]}; repair or remove these episodes."
            )
