"""The hand's motion in words: ECoT's thirteen (arXiv 2407.08693), and directions with centimetres as in Actions as
Language (OpenReview sFO9d6XSlf).

ECoT looks 3 steps ahead at Bridge's 5 Hz; here it is the same time at any rate.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial.transform import Rotation

from volar.core.calibration import Calibration
from volar.data.labels.course import Course

AHEAD: Final = 0.6  # seconds
THRESHOLD: Final = 0.03  # metres of the hand along an axis, after a longer way is shortened to three times that
TURNED: Final = 0.3  # radians
PAIRS: Final = (("forward", "backward"), ("left", "right"), ("up", "down"))
TILTS: Final = ("tilt up", "tilt down")
TURNS: Final = ("rotate counterclockwise", "rotate clockwise")
GRIPPER: Final = ("open gripper", "close gripper")
STOP: Final = "stop"


@dataclass(frozen=True, kw_only=True)
class Directions:
    """What forward, left and up mean: rows of unit vectors where the hand's place is. said: by whom, in words."""

    axes: Float64[np.ndarray, "3 3"]
    said: str


ROBOT = Directions(axes=np.eye(3), said="the robot: x forward, y left, z up")


def seen_by(camera: Calibration) -> Directions:
    """As whoever looks at the camera's picture would say: forward is away from them, or up for a camera overhead."""
    looks = camera.extrinsics[2, :3] - camera.extrinsics[1, :3]
    forward = np.array([looks[0], looks[1], 0.0])
    forward /= np.linalg.norm(forward)
    up = np.array([0.0, 0.0, 1.0])
    return Directions(axes=np.stack([forward, np.cross(up, forward), up]), said=f"camera {camera.camera}")


def move_words(course: Course, directions: Directions) -> tuple[str, ...]:
    """The primitive of every frame, such as "move forward down, close gripper"; "stop" where nothing moves.

    Tilting and turning are found only where the hand's rotation is recorded. A tilt up lifts what points forward.
    """
    frames = np.arange(len(course.hand))
    later = np.minimum(frames + course.frames(AHEAD), len(course.hand) - 1)
    way = (course.hand[later] - course.hand) @ directions.axes.T
    length = np.abs(way).sum(1, keepdims=True)
    way = np.where(length > 3 * THRESHOLD, way * 3 * THRESHOLD / np.maximum(length, 1e-9), way)
    sides = _side(way, THRESHOLD)
    tilt = turn = np.zeros(len(frames), np.int64)
    if course.turn is not None:
        ahead = Rotation.from_quat(course.turn.as_quat()[later])
        turned = (ahead * course.turn.inv()).as_rotvec() @ directions.axes.T
        # A hand that points down tilts as well about the one horizontal axis as about the other; ECoT takes both.
        tilted = np.where(np.abs(turned[:, 1]) >= np.abs(turned[:, 0]), -turned[:, 1], turned[:, 0])
        tilt, turn = _side(tilted, TURNED), _side(turned[:, 2], TURNED)
    grip = course.closed[frames].astype(np.int64) - course.closed[later]
    return tuple(_primitive(*row) for row in zip(sides, tilt.tolist(), turn.tolist(), grip.tolist(), strict=True))


def _side(values: Float64[np.ndarray, "..."], threshold: float) -> Int64[np.ndarray, "..."]:
    return (values > threshold).astype(np.int64) - (values < -threshold)


def _primitive(sides: Int64[np.ndarray, " 3"], tilt: int, turn: int, grip: int) -> str:
    along = [_word(pair, side) for pair, side in zip(PAIRS, sides.tolist(), strict=True) if side]
    said = ["move " + " ".join(along)] if along else []
    said += [_word(pair, side) for pair, side in ((TILTS, tilt), (TURNS, turn), (GRIPPER, grip)) if side]
    return ", ".join(said) or STOP


def _word(pair: tuple[str, str], side: int) -> str:
    return pair[0] if side > 0 else pair[1]


def motion_words(course: Course, directions: Directions) -> tuple[str, ...]:
    """What the hand does in the time ahead, in whole centimetres: "right 4 cm, down 2 cm, close gripper"."""
    frames = np.arange(len(course.hand))
    later = np.minimum(frames + course.frames(AHEAD), len(course.hand) - 1)
    ways = np.rint((course.hand[later] - course.hand) @ directions.axes.T * 100).astype(np.int64)
    grip = course.closed[frames].astype(np.int64) - course.closed[later]
    said = []
    for way, change in zip(ways.tolist(), grip.tolist(), strict=True):
        parts = [f"{_word(pair, far)} {abs(far)} cm" for pair, far in zip(PAIRS, way, strict=True) if far]
        said.append(", ".join([*parts, *([_word(GRIPPER, change)] if change else [])]) or STOP)
    return tuple(said)
