"""A data set in plain numbers and lists, for `volar info`. Decodes no picture."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from volar.data.dataset import Dataset
from volar.data.formats import open_dataset


def describe_dataset(root: str | Path) -> dict[str, Any]:
    """`describe`, and exact statistics (robot units). Raises ConfigError."""
    dataset = open_dataset(root)
    statistics = {name: statistics.to_json() for name, statistics in dataset.statistics().items()}
    return {**describe(dataset), "statistics": statistics}


def describe(dataset: Dataset) -> dict[str, Any]:
    """Format, features, episodes, tasks, lengths (frames), and what the numbers mean where the data set says so."""
    lengths = dataset.episodes.lengths
    counts = Counter(task for episode in dataset.episodes for task in set(episode.tasks))
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
        "tasks": {task: counts[task] for task in dataset.tasks},
        "episode_lengths": {
            "min": int(lengths.min()), "mean": float(np.mean(lengths)), "max": int(lengths.max()),
            "list": lengths.tolist(),
        },
        "spec": dataset.spec.to_json() if dataset.spec else None,
        "facts": dataset.facts,
        "content_hash": dataset.content_hash(),
    }  # fmt: skip
