"""The protocol of vla-eval (allenai/vla-evaluation-harness, version 1), and what its benchmarks leave to be declared.

A benchmark there sends `images`, `task_description` and perhaps a state under a key of its own, and takes one action
per observation. Which key is which camera, what a number means: nobody can read that off, so nothing here is guessed.
"""

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, UnidentifiedImageError

from volar.core.errors import ConfigError, EpisodeError
from volar.core.robot import Camera, Observation, RobotSpec
from volar.core.wire import pack, unpack

PROTOCOL_VERSION = 1
KINDS = ("hello", "observation", "action", "episode_start", "episode_end", "error")
MOST_PIXELS = 4096 * 4096

# vla-eval's word -> what an ActionSpec must say beside it
CONTROLS = {"delta_xyz": "delta_", "absolute_xyz": "absolute_"}
ROTATIONS = {"axis_angle", "euler_xyz", "quaternion_xyzw"}
GRIPPERS = {
    "binary_close_positive": "positive_closes", "binary_close_negative": "positive_opens",
    "binary_close_01": "positive_closes",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some neighbouring numbers of a vector. format: vla-eval's word for what they mean, such as delta_xyz."""

    name: str
    dims: int
    format: str


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """How the benchmark on the other side speaks, declared by whoever knows it; see `specs.py` of vla-eval.

    cameras: camera name here -> key among the `images` there. resize: what to do with pictures of another size than
    the policy's. state: of the proprioception, whose `name` is its key; None where none is sent. actions: the parts of
    an action, in order. parameters: what the benchmark is asked for, such as {"send_state": true}.
    """

    cameras: Mapping[str, str]
    resize: Literal["refuse", "bilinear"]
    state: Part | None
    actions: tuple[Part, ...]
    parameters: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Message:
    """seq: an answer carries that of its question."""

    kind: str
    payload: Mapping[str, Any]
    seq: int


def pack_message(kind: str, payload: Mapping[str, Any], seq: int) -> bytes:
    return pack({"type": kind, "payload": dict(payload), "seq": seq, "timestamp": time.time()}, text_keys=True)


def unpack_message(data: str | bytes) -> Message:
    """Raises EpisodeError for what is no message of vla-eval."""
    content = unpack(data)
    kind, payload, seq = content.get("type"), content.get("payload"), content.get("seq")
    if kind not in KINDS or not isinstance(payload, dict) or not isinstance(seq, int):
        raise EpisodeError(
            f"A message of vla-eval has a type ({', '.join(KINDS)}), a payload and a seq; got {list(content)} with "
            f"type {kind!r}."
        )
    return Message(kind=kind, payload=payload, seq=seq)


def gripper_signs(conventions: Conventions, robot: RobotSpec) -> Float32[np.ndarray, " a"]:
    """What an action is multiplied with on the way out or in: -1 where one side opens with what closes the other.
    Raises one ConfigError with every point on which the declared conventions cannot be those of `robot`."""
    action, problems = robot.action, []
    if set(conventions.cameras) != {camera.name for camera in robot.cameras}:
        problems.append(
            f"cameras name {sorted(conventions.cameras)}, the robot has {sorted(each.name for each in robot.cameras)}"
        )
    felt = 0 if conventions.state is None else conventions.state.dims
    if felt != len(robot.proprioception):
        problems.append(f"the state has {felt} numbers, the robot feels {len(robot.proprioception)}")
    if sum(part.dims for part in conventions.actions) != action.dim:
        words = " + ".join(f"{part.name} {part.dims}" for part in conventions.actions)
        problems.append(f"the actions are {words}, the robot takes {action.dim}: {', '.join(action.names)}")
    signs = []
    for part in conventions.actions:
        control = CONTROLS.get(part.format)
        if control and not action.control.startswith(control):
            problems.append(f"{part.name} is {part.format}, the robot's control is {action.control}")
        if part.format in ROTATIONS and part.format != action.rotation:
            problems.append(f"{part.name} is {part.format}, the robot's rotation is {action.rotation}")
        opposite = part.format in GRIPPERS and GRIPPERS[part.format] != action.gripper
        if opposite and (action.gripper == "none" or part.format.endswith("01")):
            problems.append(f"{part.name} is {part.format}, the robot's gripper is {action.gripper}")
        signs += [-1.0 if opposite else 1.0] * part.dims
    if problems:
        raise ConfigError("The conventions do not fit; rotations and controls are not converted:\n  "
                          + "\n  ".join(problems))  # fmt: skip
    return np.array(signs, dtype=np.float32)


def declared(conventions: Conventions) -> dict[str, Any]:
    """What a HELLO says of them: the harness warns where the benchmark declares otherwise."""
    images = {key: {"name": "image", "dims": 0, "format": "rgb_hwc_uint8"} for key in conventions.cameras.values()}
    seen = {**images, "language": {"name": "language", "dims": 0, "format": "language"}}
    if conventions.state is not None:
        seen["state"] = {"name": "state", "dims": conventions.state.dims, "format": conventions.state.format}
    return {
        "action_spec": {
            part.name: {"name": part.name, "dims": part.dims, "format": part.format} for part in conventions.actions
        },
        "observation_spec": seen, "observation_params": dict(conventions.parameters),
    }  # fmt: skip


def write_observation(observation: Observation, conventions: Conventions) -> dict[str, Any]:
    """As a benchmark would send it; pictures raw, which every server of vla-eval reads."""
    images = {conventions.cameras[name]: image for name, image in observation.images.items()}
    state = {} if conventions.state is None else {conventions.state.name: observation.proprioception}
    return {"images": images, "task_description": observation.instruction, **state}


def read_observation(
    payload: Mapping[str, Any], conventions: Conventions, robot: RobotSpec, *, seconds: float
) -> Observation:
    """Raises EpisodeError that says what the benchmark sent where it is not what was declared."""
    images, words = payload.get("images"), payload.get("task_description")
    if not isinstance(images, dict) or not isinstance(words, str):
        raise EpisodeError(f"Expected 'images' and a 'task_description'; the benchmark sends {sorted(payload)}.")
    missing = set(conventions.cameras.values()) - set(images)
    if missing:
        raise EpisodeError(f"The benchmark sends the images {sorted(images)}; {sorted(missing)} were declared.")
    pictures = {
        camera.name: _fit(read_image(images[key]), camera, conventions.resize)
        for camera in robot.cameras for key in [conventions.cameras[camera.name]]
    }  # fmt: skip
    state = np.zeros(0, np.float32)
    if conventions.state is not None:
        state = np.asarray(payload.get(conventions.state.name, "absent"))
        if state.dtype.kind not in "fiu" or state.shape != (conventions.state.dims,) or not np.isfinite(state).all():
            sent = {key: shown(value) for key, value in payload.items()}
            raise EpisodeError(
                f"{conventions.state.name!r} was declared to be {conventions.state.dims} finite numbers; the benchmark "
                f"sends {sent}."
            )
    return Observation(images=pictures, proprioception=state.astype(np.float32), instruction=words, time=seconds)


def read_image(value: Any) -> UInt8[np.ndarray, "_ _ 3"]:
    """A picture as an array, or as vla-eval wraps a PNG or a JPEG. Raises EpisodeError for anything else."""
    image = value
    if isinstance(value, dict) and value.get("__image__") is True and isinstance(value.get("data"), bytes):
        try:
            with Image.open(io.BytesIO(value["data"]), formats=("PNG", "JPEG")) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise EpisodeError(f"A picture of {opened.width} x {opened.height} pixels is not taken.")
                image = np.array(opened)
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
            raise EpisodeError(f"A picture is no PNG or JPEG that can be read ({error}).") from error
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise EpisodeError(f"A picture is uint8 [height width 3]; got {shown(value)}.")
    return image


def shown(value: object) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def _fit(image: UInt8[np.ndarray, "_ _ 3"], camera: Camera, resize: str) -> UInt8[np.ndarray, "_ _ 3"]:
    height, width = image.shape[:2]
    if (height, width) == (camera.height, camera.width):
        return image
    if resize == "refuse" or height * camera.width != width * camera.height:
        raise EpisodeError(
            f"The benchmark's picture for camera {camera.name!r} is {width} x {height}, the policy takes {camera.width}"
            f" x {camera.height}; declare resize: bilinear to scale pictures of the same shape."
        )
    return np.array(Image.fromarray(image).resize((camera.width, camera.height), Image.Resampling.BILINEAR))
