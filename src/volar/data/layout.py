"""Names and places of the LeRobot v3.0 data-set format, and what volar adds to them. Free of heavy imports.

Source: lerobot 0.6.1, `datasets/utils.py`. volar's additions live under keys that begin with "volar", which lerobot
ignores: one block in info.json and a few columns per episode.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

VERSION: Final = "v3.0"
INFO: Final = "meta/info.json"
STATS: Final = "meta/stats.json"
TASKS: Final = "meta/tasks.parquet"
EPISODES: Final = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA: Final = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO: Final = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
FILES_PER_CHUNK: Final = 1000

STATE: Final = "observation.state"
ACTION: Final = "action"
REWARD: Final = "next.reward"
EXECUTED: Final = "executed_action"  # a name that begins with "action" would be a policy output to lerobot
IMAGES: Final = "observation.images."
BOOKKEEPING: Final[dict[str, str]] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}

PERSISTENT: Final = "language_persistent"  # rows with a timestamp, all of them at every frame of the episode
EVENTS: Final = "language_events"  # rows of this frame
LANGUAGE: Final = (PERSISTENT, EVENTS)

EXTENSION: Final = "volar"  # in info.json: robot spec and facts of the recording
SOURCE: Final = "volar/source"  # per episode: JSON of whatever the recorder wants to know again
HISTOGRAM: Final = "volar/histogram/"  # per episode and camera: 3 x 256 counts of sampled pixels
CHECKSUM: Final = "volar/crc32/"  # per episode and video: CRC-32 of the file


def place(file: int) -> dict[str, int]:
    """Chunk folder and file number of the `file`-th file of a kind."""
    return {"chunk_index": file // FILES_PER_CHUNK, "file_index": file % FILES_PER_CHUNK}


def image_key(camera: str) -> str:
    return IMAGES + camera


def camera_name(key: str) -> str:
    """The camera behind a feature key; a key outside `observation.images.` is itself the name."""
    return key.removeprefix(IMAGES)


def vector(size: int, names: list[str] | None, dtype: str = "float32") -> dict[str, Any]:
    """The declaration of a one-dimensional feature in info.json."""
    return {"dtype": dtype, "shape": [size], "names": names}


def checksum(block: Mapping[str, Any]) -> int:
    """CRC-32 of volar's block in info.json, whatever its formatting; the entry "crc32" itself does not count."""
    plain = {key: value for key, value in block.items() if key != "crc32"}
    return zlib.crc32(json.dumps(plain, sort_keys=True).encode())
