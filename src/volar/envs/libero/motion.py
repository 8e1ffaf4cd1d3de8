"""How the arm gets from pose to pose: one action a step towards a target, as generators that an expert chains."""

from collections.abc import Generator

import numpy as np
from jaxtyping import Float32, Float64
from scipy.spatial.transform import Rotation

from volar.envs.libero.scene import Scene

OPEN, CLOSED = -1.0, 1.0
REACH = 0.05  # metres that one unit of the action asks for
TURN = 0.5  # radians
GAIN = 1.2  # the controller is slow and critically damped at 1
INTEGRAL, CLOSE = 0.08, 0.02  # of the distance that is left, added up every step within CLOSE metres
NEAR, ALIGNED = 0.008, 0.08  # metres and radians at which a pose counts as reached
PATIENCE, STILL = 6, 0.002  # steps within which a hand that gets on moves this far, metres
ARM = 0.1  # metres at which a turn counts as a way

Motion = Generator[Float32[np.ndarray, " 7"], None, None]


def toward(
    scene: Scene, position: Float64[np.ndarray, " 3"], rotation: Float64[np.ndarray, "3 3"], gripper: float
) -> Float32[np.ndarray, " 7"]:
    """The action that asks the controller for that pose, as far as one step may ask."""
    turn = Rotation.from_matrix(rotation @ scene.hand_rotation.T).as_rotvec()
    action = np.concatenate([GAIN * (position - scene.hand) / REACH, GAIN * turn / TURN, [gripper]])
    return np.clip(action, -1, 1).astype(np.float32)


def reached(
    scene: Scene, position: Float64[np.ndarray, " 3"], rotation: Float64[np.ndarray, "3 3"], near: float
) -> bool:
    turn = Rotation.from_matrix(rotation @ scene.hand_rotation.T).magnitude()
    return bool(np.linalg.norm(position - scene.hand) < near and turn < ALIGNED)


def move(
    scene: Scene, position: Float64[np.ndarray, " 3"], rotation: Float64[np.ndarray, "3 3"], gripper: float,
    *, steps: int = 60, near: float = NEAR,
) -> Motion:  # fmt: skip
    """To a pose, or as near as the arm gets: until it stops or `steps` are used up."""
    rest = np.zeros(3)  # what the arm's own forces keep it short of
    trail: list[np.ndarray] = []
    for _ in range(steps):
        trail.append(np.append(scene.hand, ARM * scene.hand_rotation[:, 0]))
        stuck = len(trail) > PATIENCE and np.linalg.norm(trail[-1] - trail[-PATIENCE]) < STILL
        if stuck or reached(scene, position, rotation, near):
            return
        short = position - scene.hand
        if np.linalg.norm(short) < CLOSE:
            rest = np.clip(rest + INTEGRAL * short, -CLOSE, CLOSE)
        yield toward(scene, position + rest, rotation, gripper)


def stay(scene: Scene, gripper: float, *, steps: int) -> Motion:
    """Hold the pose, for the fingers to open or close."""
    position, rotation = scene.hand, scene.hand_rotation
    for _ in range(steps):
        yield toward(scene, position, rotation, gripper)
