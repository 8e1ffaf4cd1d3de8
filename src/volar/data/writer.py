"""Records demonstrations as a LeRobot v3.0 data set, one episode at a time, each safe once `add` has returned.

Turns what was seen and done into columns, films and pictures; `appending.py` puts them on the disk. Torch-free.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from volar.core.robot import RobotSpec, Trajectory
from volar.data import layout
from volar.data.appending import EpisodeAppender, EpisodeContent, StoredPictures
from volar.data.pictures import encode_pictures
from volar.data.recording import Storage, check_trajectory, new_info
from volar.data.summaries import pixel_counts
from volar.data.video import encode_video


class DatasetWriter:
    """A data set being recorded. Use as a context manager, or call `close` to bring stats.json up to date.

    camera_storage: camera -> "video" (H.264, small), "jpeg" (small, fast to read) or "image" (PNG, lossless), for every
    camera of `spec`. extra: facts for every episode, such as the render recipe; plain JSON. resume: go on with what
    `root` holds, if anything. Raises ConfigError if `root` holds something else, and lists every point on which the
    two differ.
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
        self.root, self.spec, self._storage = Path(root), spec, dict(camera_storage)
        info = new_info(spec=spec, fps=fps, camera_storage=camera_storage, robot_type=robot_type, extra=extra)
        self._appender = EpisodeAppender(self.root, info, resume=resume)

    @property
    def saved(self) -> list[dict[str, Any]]:
        """The `source` of every saved episode, in order."""
        return self._appender.saved

    @property
    def num_episodes(self) -> int:
        return self._appender.num_episodes

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the final stats.json. The data set is whole without it, only its stored statistics lag behind."""
        self._appender.close()

    def add(self, trajectory: Trajectory, instruction: str, *, source: Mapping[str, Any]) -> int:
        """Save one episode and return its index; once this returns it survives anything but the disk.

        instruction: of every frame that `trajectory.instructions` says nothing else of.
        source: how the episode came about (task, seed, success, noise, ...), plain JSON, handed out again by `saved`.
        Raises ConfigError if the episode does not belong here, OSError if the disk is full.
        """
        check_trajectory(trajectory, self.spec, self.num_episodes)
        frame = np.arange(len(trajectory.actions))
        numbers = {
            layout.STATE: trajectory.proprioception,
            layout.ACTION: trajectory.actions,
            layout.EXECUTED: trajectory.executed,
            layout.REWARD: trajectory.rewards[:, None],
            "timestamp": (frame / self._appender.info["fps"])[:, None],
            "frame_index": frame[:, None],
        }
        pictures = {
            layout.image_key(name): store_pictures(trajectory.images[name], storage, self._appender.info["fps"])
            for name, storage in self._storage.items()
        }
        instructions = trajectory.instructions or [instruction] * len(frame)
        return self._appender.append(
            EpisodeContent(numbers=numbers, pictures=pictures, instructions=instructions, source=source)
        )


def store_pictures(frames: np.ndarray, storage: Storage, fps: int | float) -> StoredPictures:
    """Encode a camera's pictures [t h w 3] of an episode."""
    if storage == "video":
        return StoredPictures(content=encode_video(frames, fps), pixels=pixel_counts(frames))
    content = encode_pictures(frames, "jpeg" if storage == "jpeg" else "png")
    return StoredPictures(content=content, pixels=pixel_counts(frames))
