"""A data set in plain numbers and lists, for `volar info`. Reads every number, decodes no picture."""

from pathlib import Path
from typing import Any

import numpy as np

from volar.data.formats import open_dataset


def describe_dataset(root: Path) -> dict[str, Any]:
    """Format, features, episodes, tasks, lengths (frames) and exact statistics (robot units). Raises ConfigError."""
    dataset = open_dataset(root)
    lengths = [episode.length for episode in dataset.episodes]
    return {
        "kind": "dataset",
        "format": dataset.format,
        "fps": dataset.fps,
        "robot": dataset.info.get("robot_type"),
        "features": {
            name: {key: feature.get(key) for key in ("dtype", "shape", "names")}
            for name, feature in dataset.features.items()
        },
        "cameras": [camera.name for camera in dataset.cameras],
        "episodes": len(dataset.episodes),
        "frames": dataset.num_frames,
        "tasks": {task: _episodes_of(task, dataset.episodes) for task in dataset.tasks},
        "episode_lengths": {
            "min": min(lengths), "mean": float(np.mean(lengths)), "max": max(lengths), "list": lengths,
        },
        "statistics": {name: statistics.to_json() for name, statistics in dataset.statistics().items()},
        "spec": dataset.spec.to_json() if dataset.spec else None,
        "facts": dataset.facts,
        "content_hash": dataset.content_hash(),
    }  # fmt: skip


def _episodes_of(task: str, episodes: Any) -> int:
    return sum(task in episode.tasks for episode in episodes)
