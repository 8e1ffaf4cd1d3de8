"""Where a two-finger gripper can take hold of a thing made of boxes: geometry only, no learning and no simulation."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from volar.envs.libero.scene import Boxes

WIDEST = 0.036  # half of what fits between the open fingers, metres
LEVEL = 0.45  # sine of the steepest slope at which two fingers still hold a piece's sides
DEPTHS = (0.02, 0.03, 0.04)  # of the fingertips below the top of the piece that is held
BELOW_TOP = 0.031  # where a thing is best held, under its highest point
FLOOR = 0.008  # between the point between the fingertips and what the thing stands on
ENOUGH = 0.005  # clearance beyond which more is no better
TOUCHING = 0.0005  # metres that points may lie inside a box; in a thin wall they cannot lie deeper than half of it
REFUSED = 0.05  # of merit, lost where the gripper would hit something: only where there is no other grasp
ABOVE = (0.015, 0.03, 0.05, 0.07, 0.12)  # heights at which the way down must be free
SPACING = 0.015  # of the points that stand for the gripper, metres
NEARBY = 0.3  # metres around a grasp in which boxes count
SHORTLIST = 24
UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class Grasp:
    """A pose of the point between the fingertips, world, metres. rotation: columns are the direction in which the
    fingers open, the palm's breadth, and where the fingers point. clearance: of the open gripper, negative if it would
    touch. merit: what grasps are ranked by."""

    position: Float64[np.ndarray, " 3"]
    rotation: Float64[np.ndarray, "3 3"]
    clearance: float
    merit: float


def pointing(fingers: Float64[np.ndarray, " 3"], direction: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, "3 3"]:
    """The rotation of a hand that points in `direction` and opens along `fingers`, made perpendicular to it."""
    z = direction / np.linalg.norm(direction)
    x = fingers - (fingers @ z) * z
    x = x / np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def surface_points(gripper: Boxes) -> Float64[np.ndarray, "k 3"]:
    """Points all over the surfaces of the gripper's boxes, in the frame in which these are given."""
    clouds = []
    for center, rotation, half in zip(gripper.center, gripper.rotation, gripper.half, strict=True):
        edges = [np.linspace(-1, 1, 2 + int(2 * size / SPACING)) for size in half]
        grid = np.stack(np.meshgrid(*edges, indexing="ij"), axis=-1).reshape(-1, 3)
        grid = grid[(np.abs(grid) == 1).any(1)]
        clouds.append(center + (grid * half) @ rotation.T)
    return np.concatenate(clouds)


def clearance(
    points: Float64[np.ndarray, "k 3"], position: Float64[np.ndarray, " 3"], rotation: Float64[np.ndarray, "3 3"],
    around: Boxes,
) -> float:  # fmt: skip
    """Metres between a gripper (its points in the hand's frame) at a pose and the boxes around it."""
    return float(around.clearance(position + points @ rotation.T).min())


def find_grasps(
    thing: Boxes, around: Boxes, points: Float64[np.ndarray, "k 3"], hand: Float64[np.ndarray, "3 3"]
) -> list[Grasp]:
    """Downward grasps of every piece that fits between the fingers, best first; empty where nothing fits.

    around: all that must not be touched, the thing included. points: of the open gripper in the hand's frame. hand: its
    present rotation, from which it should turn little.
    """
    near = around.select(np.linalg.norm(around.center - thing.center.mean(0), axis=1) - around.half.max(1) < NEARBY)
    found = [_rated(position, rotation, thing, near, points, hand) for position, rotation in _poses(thing, hand)]
    short = sorted(found, key=lambda grasp: -grasp.merit)[:SHORTLIST]
    return sorted((_with_way_down(grasp, near, points) for grasp in short), key=lambda grasp: -grasp.merit)


def _poses(thing: Boxes, hand: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    poses: dict[tuple[float, ...], tuple[np.ndarray, np.ndarray]] = {}
    corners = thing.corners()
    floor = corners[..., 2].min() + FLOOR
    for piece, center in enumerate(thing.center):
        top = corners[piece, :, 2].max()
        for axis in np.flatnonzero((np.abs(thing.rotation[piece, 2]) < LEVEL) & (thing.half[piece] < WIDEST)):
            rotation = _least_turn(thing.rotation[piece, :, axis], hand)
            normal = thing.rotation[piece, :, axis]
            slope = -normal[:2] * normal[2] / (normal[:2] @ normal[:2])  # how far a wall leans out, per metre of height
            for depth in DEPTHS:
                height = max(top - depth, floor)
                position = np.append(center[:2] + slope * (height - center[2]), height)
                poses.setdefault(tuple(np.round([*position, *rotation[:, 0]], 3)), (position, rotation))
    return list(poses.values())


def _least_turn(fingers: np.ndarray, hand: np.ndarray) -> np.ndarray:
    """Both fingers are alike, so the hand may open along `fingers` or against it."""
    sign = 1.0 if fingers @ hand[:, 0] >= 0 else -1.0
    return pointing(sign * fingers, -UP)


def _rated(
    position: np.ndarray, rotation: np.ndarray, thing: Boxes, near: Boxes, points: np.ndarray, hand: np.ndarray
) -> Grasp:
    free = clearance(points, position, rotation, near)
    turn = np.arccos(np.clip((np.trace(rotation.T @ hand) - 1) / 2, -1, 1))
    corners = thing.corners()
    away = np.linalg.norm(position[:2] - thing.center[:, :2].mean(0))
    ideal = max(corners[..., 2].max() - BELOW_TOP, corners[..., 2].min() + FLOOR)
    merit = _worth(free) - 0.004 * turn - 0.05 * away - 0.5 * abs(position[2] - ideal)
    return Grasp(position=position, rotation=rotation, clearance=free, merit=float(merit))


def _with_way_down(grasp: Grasp, near: Boxes, points: np.ndarray) -> Grasp:
    ways = [clearance(points, grasp.position + up * UP, grasp.rotation, near) for up in ABOVE]
    free = min(grasp.clearance, *ways)
    merit = grasp.merit - _worth(grasp.clearance) + _worth(free)
    return Grasp(position=grasp.position, rotation=grasp.rotation, clearance=free, merit=merit)


def _worth(clearance: float) -> float:
    return min(clearance, ENOUGH) - (REFUSED if clearance < -TOUCHING else 0.0)
