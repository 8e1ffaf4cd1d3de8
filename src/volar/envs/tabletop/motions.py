"""How the experts of `tabletop` move: carrying, pushing, drawing, pressing. One action at a time, closed loop, without
memory."""

import numpy as np
from jaxtyping import Float64

from volar.envs.tabletop.scene import FINGER_RANGE
from volar.envs.tabletop.task import Scene, horizontal

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
    width: float | None = None,
) -> Action:
    """Grasp `grip` above the thing's centre, lift its centre to `lift`, go over the goal to within `tolerance`, and
    go down until the thing's centre is at `lower`; then open if `release`. width: of the thing between the fingers;
    told, the hand waits until they rest on it. All in metres."""
    at = thing[:3] + np.array([0.0, 0.0, grip])
    offset = now.hand - at
    beside = float(np.linalg.norm(offset[:2]))
    over = thing[:2] - goal[:2]
    closed = now.opening < 0.75 if width is None else abs(2 * FINGER_RANGE * now.opening - width) < 0.004
    held = beside < 0.012 and abs(offset[2]) < 0.012 and closed
    if not held:
        if beside < 0.006 and abs(offset[2]) < 0.006:
            return np.array([0.0, 0.0, 0.0, 1.0])
        if beside > 0.006 and offset[2] < 0.05:
            return towards(np.append(now.hand[:2] if beside > 0.03 else at[:2], at[2] + 0.07), now.hand, -1.0)
        height = at[2] if beside < 0.006 else at[2] + 0.07
        return towards(np.append(at[:2], height), now.hand, -1.0, gain=0.7)
    away = float(np.linalg.norm(over))
    if release and away < tolerance and thing[2] < lower + 0.005:
        return np.array([0.0, 0.0, 0.0, -1.0])
    if away > 0.02 and thing[2] < lift:
        return towards(now.hand + np.array([0.0, 0.0, 0.03]), now.hand, 1.0)
    # The better aligned, the faster down: a threshold would teach a clone to hover for ever in front of it.
    down = 0.008 * float(np.clip(1.5 - away / (2 * tolerance), 0.0, 1.0))
    place = now.hand - np.append(over, min(down, thing[2] - lower))
    return towards(place, now.hand, 1.0, gain=0.5)


def push(now: Scene, thing: Float64[np.ndarray, " 7"], goal: Float64[np.ndarray, " 3"], radius: float) -> Action:
    """Slide a thing of that radius over the table to a goal, with closed fingers from behind it."""
    ahead = (goal - thing[:3])[:2]
    ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-6)
    offset = now.hand[:2] - thing[:2]
    along, across = float(offset @ ahead), float(offset[0] * ahead[1] - offset[1] * ahead[0])
    behind = thing[:2] - ahead * (radius + 0.022)
    ready = along < 0 and abs(across) < 0.008
    if now.hand[2] < 0.03 and ready:
        return towards(np.append(thing[:2] - 0.01 * ahead, 0.018), now.hand, 1.0)
    if now.hand[2] < 0.03 and (abs(across) > 0.016 or along > -0.02):
        return towards(np.append(now.hand[:2], HOVER), now.hand, 1.0)
    if float(np.linalg.norm(behind - now.hand[:2])) > 0.006 and now.hand[2] > 0.03:
        return towards(np.append(behind, 0.06), now.hand, 1.0)
    return towards(np.append(behind, 0.018), now.hand, 1.0)


def around(
    start: Float64[np.ndarray, " 2"], end: Float64[np.ndarray, " 2"], blocks: Float64[np.ndarray, "n 3"]
) -> Float64[np.ndarray, " 2"]:
    """Where to go first on the way from start to end: the end, or beside the first of the blocks (x, y and the distance
    to keep) that the straight line meets, on the side on which it passes."""
    way = end - start
    length = max(float(np.linalg.norm(way)), 1e-6)
    ahead = way / length
    aside = np.array([-ahead[1], ahead[0]])
    offset = blocks[:, :2] - start
    along, across = offset @ ahead, offset @ aside
    met = (along > 0) & (along < length) & (np.abs(across) < blocks[:, 2])
    if not met.any():
        return end
    first = int(np.argmin(np.where(met, along, np.inf)))
    side = -1.0 if across[first] > 0 else 1.0
    return blocks[first, :2] + 1.25 * side * blocks[first, 2] * aside


def draw(now: Scene, tab: Float64[np.ndarray, " 3"], outwards: bool) -> Action:
    """Move a drawer by its tab, with closed fingers from behind it (outwards, along -y) or from before it."""
    side = 1.0 if outwards else -1.0
    beside = tab[:2] + np.array([0.0, side * 0.022])
    offset = now.hand[:2] - tab[:2]
    low = now.hand[2] < 0.06
    if low and abs(offset[0]) < 0.012 and 0 < side * offset[1] < 0.035:
        return towards(np.array([tab[0], now.hand[1] - 2 * side * STRIDE, 0.045]), now.hand, 1.0)
    if float(np.linalg.norm(now.hand[:2] - beside)) > 0.006 or now.opening > 0.1:
        return towards(np.append(now.hand[:2] if low else beside, HOVER), now.hand, 1.0)
    return towards(np.append(beside, 0.045), now.hand, 1.0)


def press(now: Scene, place: Float64[np.ndarray, " 3"], low: float) -> Action:
    """Closed fingers straight down on a place, to the height `low` of the fingers' frame."""
    if horizontal(now.hand, place) > 0.008:
        rising = now.hand[2] < HOVER - 0.02
        return towards(np.append(now.hand[:2] if rising else place[:2], HOVER), now.hand, 1.0)
    return towards(np.append(place[:2], low), now.hand, 1.0)
