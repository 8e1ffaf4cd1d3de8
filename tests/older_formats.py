"""A recorded data set written down again as LeRobot v2.0, v2.1 or GR00T has it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from volar.data import layout

MODALITY = {
    "state": {"position": {"start": 0, "end": 2}, "height": {"start": 2, "end": 3}},
    "action": {"grip": {"start": 3, "end": 4}, "move": {"start": 0, "end": 3}},
    "video": {"ego": {"original_key": "observation.images.front"}},
    "annotation": {"human.action.task_description": {"original_key": "task_index"}},
}  # fmt: skip


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_v2(recorded: Path, root: Path, version: str = "v2.1") -> Path:
    """`recorded` has one data file and one video per episode, as volar writes them."""
    info = json.loads((recorded / layout.INFO).read_text())
    (root / "meta").mkdir(parents=True)
    del info[layout.EXTENSION]
    info |= {
        "codebase_version": version, "chunks_size": 4, "total_chunks": 2, "total_videos": info["total_episodes"],
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }  # fmt: skip
    lines = []
    for episode in range(info["total_episodes"]):
        place, chunk = layout.place(episode), f"chunk-{episode // 4:03d}"
        (root / "data" / chunk).mkdir(parents=True, exist_ok=True)
        shutil.copy(recorded / layout.DATA.format(**place), root / f"data/{chunk}/episode_{episode:06d}.parquet")
        film = recorded / layout.VIDEO.format(video_key="observation.images.front", **place)
        folder = root / "videos" / chunk / "observation.images.front"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, folder / f"episode_{episode:06d}.mp4")
        row = pq.read_table(recorded / layout.EPISODES.format(**place), columns=["tasks", "length"]).to_pylist()[0]
        lines.append({"episode_index": episode, **row})
    write_lines(root / "meta/episodes.jsonl", lines)
    tasks = pq.read_table(recorded / layout.TASKS)["task"].to_pylist()
    write_lines(root / "meta/tasks.jsonl", [{"task_index": i, "task": task} for i, task in enumerate(tasks)])
    (root / layout.INFO).write_text(json.dumps(info))
    return root


def write_gr00t(recorded: Path, root: Path) -> Path:
    """Without frame_index, with times that begin at one frame's length, as in published GR00T sets."""
    write_v2(recorded, root, "v2.0")
    info = json.loads((root / layout.INFO).read_text())
    for path in root.glob("data/*/*.parquet"):
        table = pq.read_table(path)
        position = table.column_names.index("timestamp")
        late = [time + 1 / info["fps"] for time in table["timestamp"].to_pylist()]
        table = table.set_column(position, "timestamp", [late]).drop_columns(["frame_index"])
        pq.write_table(table, path)
    del info["features"]["frame_index"]
    info["features"]["timestamp"]["dtype"] = "float64"
    (root / layout.INFO).write_text(json.dumps(info))
    (root / "meta/modality.json").write_text(json.dumps(MODALITY))
    return root
