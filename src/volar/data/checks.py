"""What a LeRobot v3.0 data set must fulfil before anything is computed from it, and how a failure is told."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from volar.core.errors import ConfigError
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
    except (ValueError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is corrupt: {error}.") from error
    if not (isinstance(info["fps"], int | float) and info["fps"] > 0):
        raise ConfigError(f"{path}: fps must be a positive number of frames a second, got {info['fps']!r}.")
    if info["total_episodes"] < 1:
        raise ConfigError(f"{root} holds no episodes yet.")
    return info


def check_rows(rows: Sequence[Mapping[str, Any]], info: Mapping[str, Any], root: Path) -> list[dict[str, Any]]:
    """The declared episodes in order. A row beyond `total_episodes` is a recording cut short, and left out."""
    count = info["total_episodes"]
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
