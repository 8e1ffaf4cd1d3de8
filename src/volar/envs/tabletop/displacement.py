"""A beginning of `tabletop` moved elsewhere, as the perturbation axes layout and initial ask for."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from volar.envs.perturbation.world import Displacement, outward
from volar.envs.tabletop.scene import PARKED
from volar.envs.tabletop.task import Scene

MARGIN = 0.01  # metres that things stay inside the hand's reach


def displaced(
    begun: Scene, displacement: Displacement, *, target: int | None,
    low: Float64[np.ndarray, " 3"], high: Float64[np.ndarray, " 3"],
) -> Scene:  # fmt: skip
    """Everything in play is moved as one, away from the table's middle as seen from the target object (the first goal
    where there is none), and less far where something would leave the hand's reach. low, high: of that reach."""
    way = np.zeros(3)
    playing = begun.objects[:, 0] < PARKED
    if displacement.outward:
        seen = begun.goal if target is None else begun.objects[target]
        way[:2] = outward(seen[:2], np.zeros(2), displacement.outward)
        places = np.concatenate([begun.objects[playing, :2], begun.goals[:, :2]])
        room = low[:2] + MARGIN - places.min(axis=0), high[:2] - MARGIN - places.max(axis=0)
        way[:2] = np.clip(way[:2], np.minimum(room[0], 0.0), np.maximum(room[1], 0.0))
    objects = begun.objects.copy()
    objects[playing, :3] += way
    hand = np.clip(begun.hand + displacement.hand, low, high)
    return replace(begun, hand=hand, objects=objects, goals=begun.goals + way)
