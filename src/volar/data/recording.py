"""What a recording declares before its first episode, and what an episode must be to belong to it. No files here."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import numpy as np

from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import Camera, RobotSpec, Trajectory
from volar.data import layout
from volar.data.pictures import picture_facts
from volar.data.video import CODEC, GROUP

Storage = Literal["video", "image", "jpeg"]  # H.264; PNG, lossless; JPEG in the image column


def new_info(
    *,
    spec: RobotSpec,
    fps: int | float,
    camera_storage: Mapping[str, Storage],
    robot_type: str,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """The info.json of an empty recording. Raises ConfigError when its parts contradict one another."""
    if abs(fps - spec.action.rate_hz) > 1e-6:
        raise ConfigError(f"fps is {fps:g}, but the robot's actions come at {spec.action.rate_hz:g} Hz; give that.")
    cameras = {camera.name: camera for camera in spec.cameras}
    for name in camera_storage:
        if name not in cameras:
            raise unknown_name("camera", name, cameras)
    if missing := sorted(cameras.keys() - camera_storage.keys()):
        raise ConfigError(f"No storage chosen for camera(s) {missing}: 'video' (small), 'jpeg' or 'image' (lossless).")
    features = {
        layout.image_key(name): camera_feature(camera, camera_storage[name], fps) for name, camera in cameras.items()
    }
    if spec.proprioception:
        features[layout.STATE] = layout.vector(len(spec.proprioception), list(spec.proprioception))
    names = list(spec.action.names)
    features[layout.ACTION] = layout.vector(len(names), names)
    features[layout.EXECUTED] = layout.vector(len(names), names)
    features[layout.REWARD] = layout.vector(1, None)
    features |= {key: layout.vector(1, None, dtype) for key, dtype in layout.BOOKKEEPING.items()}
    return declare(
        features, fps=fps, camera_storage=camera_storage, robot_type=robot_type, spec=spec, extra=extra
    )  # fmt: skip


def declare(
    features: Mapping[str, Mapping[str, Any]], *, fps: int | float, camera_storage: Mapping[str, Storage],
    robot_type: str | None, spec: RobotSpec | None, extra: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The info.json of a data set of these features that has no episode yet. spec: None when nobody said what the
    numbers mean. Raises ConfigError if `extra` is no plain JSON."""
    try:
        facts = json.loads(
            json.dumps(
                {"spec": spec.to_json() if spec else None, "storage": dict(camera_storage), "extra": dict(extra)}
            )
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The facts of a recording must be plain JSON: {error}.") from error
    return {
        "codebase_version": layout.VERSION,
        "fps": int(fps) if float(fps).is_integer() else fps,
        "features": dict(features),
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": 0,
        "chunks_size": layout.FILES_PER_CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "data_path": layout.DATA,
        "video_path": layout.VIDEO if "video" in camera_storage.values() else None,
        "robot_type": robot_type,
        "splits": {},
        layout.EXTENSION: facts | {"crc32": layout.checksum(facts)},
    }


def camera_feature(camera: Camera, storage: Storage, fps: int | float) -> dict[str, Any]:
    """The declaration of a camera whose pictures we encode. Raises ConfigError for a video with an odd side."""
    if storage not in get_args(Storage):
        raise unknown_name("camera storage", str(storage), get_args(Storage))
    feature: dict[str, Any] = {
        "dtype": "video" if storage == "video" else "image",
        "shape": [camera.height, camera.width, 3],
        "names": ["height", "width", "channels"],
    }
    if storage == "jpeg":
        feature["info"] = picture_facts("jpeg", camera.height, camera.width)
    if storage == "video":
        if camera.height % 2 or camera.width % 2:
            raise ConfigError(
                f"Camera {camera.name!r} is {camera.height} x {camera.width} pixels; a video needs even sides. "
                f"Choose an even size, or store it as 'image' or 'jpeg'."
            )
        feature["info"] = {
            "video.height": camera.height, "video.width": camera.width, "video.codec": CODEC.removeprefix("lib"),
            "video.pix_fmt": "yuv420p", "video.fps": fps, "video.channels": 3, "video.g": GROUP,
            "video.is_depth_map": False, "has_audio": False,
        }  # fmt: skip
    return feature


def differences(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], *, ours_name: str = "now", theirs_name: str = "there"
) -> list[str]:
    """Every point on which two recordings differ in what they declare; what grows with the episodes is left out."""
    mine, other = (dict(_flatten(info)) for info in (ours, theirs))
    growing = {"total_episodes", "total_frames", "total_tasks", "splits.train", f"{layout.EXTENSION}.crc32"}
    return [
        f"{key}: {other.get(key, 'absent')} {theirs_name}, {mine.get(key, 'absent')} {ours_name}"
        for key in sorted((mine.keys() | other.keys()) - growing)
        if mine.get(key) != other.get(key)
    ]


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, json.loads(json.dumps(value))


def check_trajectory(trajectory: Trajectory, spec: RobotSpec, episode: int) -> None:
    """Raise ConfigError, naming the episode, for a wrong shape, unequal lengths or a number that is not finite."""
    length = len(trajectory.actions)
    if length == 0:
        raise ConfigError(f"Episode {episode} has no steps; nothing was saved.")
    expected = {
        "actions": (length, spec.action.dim),
        "executed": (length, spec.action.dim),
        "proprioception": (length, len(spec.proprioception)),
        "rewards": (length,),
    }
    numbers = {
        "actions": trajectory.actions,
        "executed": trajectory.executed,
        "proprioception": trajectory.proprioception,
        "rewards": trajectory.rewards,
    }
    for name, shape in expected.items():
        if numbers[name].shape != shape:
            raise ConfigError(f"Episode {episode}: {name} must be {list(shape)}, got {list(numbers[name].shape)}.")
        finite = np.isfinite(numbers[name])
        if not finite.all():
            step = int(np.argwhere(~finite)[0, 0])
            raise ConfigError(f"Episode {episode}: {name} is not finite at step {step}; the episode was not saved.")
    for camera in spec.cameras:
        shape = (length, camera.height, camera.width, 3)
        frames = trajectory.images.get(camera.name)
        if frames is None or trajectory.image_steps not in ((), tuple(range(length))):
            raise ConfigError(
                f"Episode {episode} has no frame for every step of camera {camera.name!r}; record with frames='all'."
            )
        if frames.shape != shape or frames.dtype != np.uint8:
            raise ConfigError(
                f"Episode {episode}: camera {camera.name!r} must be uint8 {list(shape)}, got {frames.dtype} "
                f"{list(frames.shape)}."
            )
