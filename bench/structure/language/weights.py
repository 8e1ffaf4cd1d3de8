"""How rules set the published raw weights: as the published prompt says, or as well as the interface allows.

Indices 0-3 act early, 4-6 in the middle, 7-10 late, says the prompt, and that they be zero but for an obstacle.
"""

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float64
from scipy.optimize import linprog

from volar.reasoning.language.raw_weights import COUNT, LARGEST, ROW_GAIN, arm_response, crossing

if TYPE_CHECKING:
    from rules import Passing

LIFT = 0.25  # of the first weights of z: six centimetres
END = 0.01  # metres from the goal at which a solved motion may end
DELAYS = (0.0, 0.15, 0.3, 0.5, 0.9)  # of the main axis, by its first weights
ENDS = 0.03  # of the way
EDGE = 0.24  # metres from the middle of the table that the hand may go


def _grip_late() -> Float64[np.ndarray, " 11"]:
    """The first row of -0.9 and zeros under which the gripper closes in the last tenth."""
    for count in range(COUNT):
        row = np.array([-LARGEST] * count + [0.0] * (COUNT - count))
        moment = crossing(tuple(row), closes=True)
        if moment is not None and moment > 0.9:
            return row
    raise AssertionError("no such row")


GRIP_LATE = _grip_late()
REACH_ROW = np.array([0.15, 0.15, 0.1, *[0.0] * 8])  # from above


@cache
def free_and_bends() -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, "n 3"], Float64[np.ndarray, "n 11"]]:
    """s, and what start, start speed and goal, and what each weight adds."""
    s = np.linspace(0, 1, 201)
    rows = arm_response().at(torch.tensor(s)).numpy()
    return s, rows[:, :3], ROW_GAIN * rows[:, 3:]


def bent_weights(
    way: str, hand: Float64[np.ndarray, " 3"], goal: Float64[np.ndarray, " 3"], passing: "Passing | None"
) -> Float64[np.ndarray, "3 11"]:
    """Rows x, y, z of a carry. way: "zeros", "early" (indices 0-3, as strong as the obstacle needs), "by index" (those
    that the prompt assigns to the obstacle's share of the way, at full strength) or "solved"."""
    weights = np.zeros((3, COUNT))
    weights[2, :2] = LIFT
    if passing is None or way == "zeros":
        return weights
    if way == "solved":
        return _solved(weights, hand, goal, passing)
    if way == "early":
        _, free, bends = free_and_bends()
        moment = int(np.searchsorted(free[:, 2], passing.fraction))
        strength = min(abs(passing.side) / bends[moment, :4].sum(), LARGEST)
        weights[passing.axis, :4] = np.sign(passing.side) * strength
        return weights
    third = 0 if passing.fraction < 4 / COUNT else 1 if passing.fraction < 7 / COUNT else 2
    weights[passing.axis, [slice(0, 4), slice(4, 7), slice(7, 11)][third]] = np.sign(passing.side) * LARGEST
    return weights


def _solved(
    weights: Float64[np.ndarray, "3 11"], hand: Float64[np.ndarray, " 3"], goal: Float64[np.ndarray, " 3"],
    passing: "Passing",
) -> Float64[np.ndarray, "3 11"]:  # fmt: skip
    """The largest clearance that any weights in range give, the main axis held back where that helps. Nobody could ask
    a language model for this; it is the interface's limit."""
    _, free, bends = free_and_bends()
    main, axis = 1 - passing.axis if passing.axis < 2 else int(abs(goal - hand)[1] > abs(goal - hand)[0]), passing.axis
    ahead = np.sign(goal[main] - hand[main])
    best, kept = -np.inf, weights
    for strength in DELAYS:
        for count in (1, 2, 3, 4) if strength else (1,):
            tried = weights.copy()
            tried[main, :count] = -ahead * strength
            along = free[:, 0] * hand[main] + free[:, 2] * goal[main] + bends @ tried[main]
            share = (np.clip(along, -EDGE, EDGE) - hand[main]) / (goal[main] - hand[main])
            inside = beside(share, passing.fraction, passing.half)
            if abs(along[-1] - goal[main]) > END or not inside.any():
                continue
            found = widest(bends, inside, float(np.sign(passing.side)), hand[axis], goal[axis], free)
            if found is not None and found[-1] > best:
                best, tried[axis] = found[-1], found[:COUNT]
                kept = tried
    return kept


def beside(share: Float64[np.ndarray, " n"], fraction: float, half: float) -> np.ndarray:
    """When the obstacle is beside a motion that has gone that share of its way; not at its very ends, where nothing
    stands."""
    return (np.abs(share - fraction) < half) & (share > ENDS) & (share < 1 - ENDS)


def widest(
    bends: Float64[np.ndarray, "n 11"], inside: np.ndarray, sign: float, start: float, goal: float,
    free: Float64[np.ndarray, "n 3"],
) -> Float64[np.ndarray, " 12"] | None:  # fmt: skip
    """Weights and the clearance that they give wherever the obstacle is beside; inside the table, to the goal."""
    straight = free[:, 0] * start + free[:, 2] * goal
    one = np.ones((len(bends), 1))
    rows = np.vstack([
        np.hstack([-sign * bends[inside], one[inside]]),
        np.hstack([bends, 0 * one]), np.hstack([-bends, 0 * one]),
        np.hstack([[bends[-1], -bends[-1]], np.zeros((2, 1))]),
    ])  # fmt: skip
    left = goal - straight[-1]
    limits = np.concatenate([np.zeros(inside.sum()), EDGE - straight, EDGE + straight, [left + END, END - left]])
    cost = np.append(np.zeros(COUNT), -1.0)
    found = linprog(cost, A_ub=rows, b_ub=limits, bounds=[(-LARGEST, LARGEST)] * COUNT + [(None, None)])
    return found.x if found.status == 0 else None
