"""How the experts of `tabletop` move: towards a place, and the carrying of a thing. One action at a time, closed loop,
without memory."""

import numpy as np
from jaxtyping import Float64

from volar.envs.tabletop.task import Scene

STRIDE = 0.01  # metres that the commanded point moves per unit of action
HOVER = 0.09  # height at which the hand travels over things on the table
Action = Float64[np.ndarray, " 4"]


def towards(
    place: Float64[np.ndarray, " 3"], hand: Float64[np.ndarray, " 3"], gripper: float, *, gain: float = 1.0
) -> Action:
    """At most one unit per step along the straight line. gripper: 1 closes, -1 opens."""
    motion = gain * (place - hand) / STRIDE
    return np.append(motion / max(1.0, float(np.linalg.norm(motion))), gripper)


def carry(
    now: Scene,
    thing: Float64[np.ndarray, " 7"],
    goal: Float64[np.ndarray, " 3"],
    *,
    grip: float,
    lift: float,
    tolerance: float,
    lower: float,
    release: bool = False,
    spread: float = -1.0,
) -> Action:
    """Grasp `grip` above the thing's centre, lift its centre to `lift`, go over the goal to within `tolerance`, and
    go down until the thing's centre is at `lower`; then open if `release`. All in metres. spread: action of the gripper
    before it grasps."""
    at = thing[:3] + np.array([0.0, 0.0, grip])
    offset = now.hand - at
    beside = float(np.linalg.norm(offset[:2]))
    over = thing[:2] - goal[:2]
    held = beside < 0.012 and abs(offset[2]) < 0.012 and now.opening < 0.75
    if not held:
        if beside < 0.006 and abs(offset[2]) < 0.006:
            return np.array([0.0, 0.0, 0.0, 1.0])
        if beside > 0.006 and offset[2] < 0.05:
            return towards(np.append(now.hand[:2] if beside > 0.03 else at[:2], at[2] + 0.07), now.hand, spread)
        height = at[2] if beside < 0.006 else at[2] + 0.07
        return towards(np.append(at[:2], height), now.hand, spread, gain=0.7)
    away = float(np.linalg.norm(over))
    if release and away < tolerance and thing[2] < lower + 0.005:
        return np.array([0.0, 0.0, 0.0, -1.0])
    if away > 0.02 and thing[2] < lift:
        return towards(now.hand + np.array([0.0, 0.0, 0.03]), now.hand, 1.0)
    # The better aligned, the faster down: a threshold would teach a clone to hover for ever in front of it.
    down = 0.008 * float(np.clip(1.5 - away / (2 * tolerance), 0.0, 1.0))
    place = now.hand - np.append(over, min(down, thing[2] - lower))
    return towards(place, now.hand, 1.0, gain=0.5)
