"""How the arm gets from pose to pose: one action a step towards a target, as generators that an expert chains."""

from collections.abc import Generator

import numpy as np
from jaxtyping import Float32, Float64
from scipy.spatial.transform import Rotation

from volar.envs.libero.scene import Scene

OPEN, CLOSED = -1.0, 1.0
REACH = 0.05  # metres that one unit of the action asks for
TURN = 0.5  # radians
NEAR, ALIGNED = 0.008, 0.06  # metres and radians at which a pose counts as reached

Motion = Generator[Float32[np.ndarray, " 7"], None, None]


def toward(
    scene: Scene, position: Float64[np.ndarray, " 3"], rotation: Float64[np.ndarray, "3 3"], gripper: float
) -> Float32[np.ndarray, " 7"]:
    """The action that asks the controller for that pose, as far as one step may ask."""
    turn = Rotation.from_matrix(rotation @ scene.hand_rotation.T).as_rotvec()
    action = np.concatenate([(position - scene.hand) / REACH, turn / TURN, [gripper]])
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
    """To a pose, or until `steps` are used up: what blocks the arm must not hold it for ever."""
    for _ in range(steps):
        if reached(scene, position, rotation, near):
            return
        yield toward(scene, position, rotation, gripper)


def stay(scene: Scene, gripper: float, *, steps: int) -> Motion:
    """Hold the pose, for the fingers to open or close."""
    position, rotation = scene.hand, scene.hand_rotation
    for _ in range(steps):
        yield toward(scene, position, rotation, gripper)
