"""The tasks of `tabletop`: where things begin, what counts as success or failure, and how a scripted expert does it.

Functions of a `Scene`; MuJoCo is not needed here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from volar.envs import tabletop_scene as scene

STRIDE = 0.01  # metres that the commanded point moves per unit of action
Ways = tuple[float, float]  # of two equally good ones at a first and a second choice: -1 left, 1 right
PRESSED = 10.0  # newtons that the fixture bears; a peg that slides in presses with 1 to 3
HOVER = 0.09  # height at which the hand travels over things on the table


@dataclass(frozen=True)
class Scene:
    """The world's state in metres. hand: the point between the fingertips. opening: 0 closed to 1 open.
    objects: rows of x, y, z and quaternion wxyz. goal: centre of the region, fixture or bowl on the table.
    pressed: newtons on the fixture."""

    hand: Float64[np.ndarray, " 3"]
    opening: float
    objects: Float64[np.ndarray, "n 7"]
    goal: Float64[np.ndarray, " 3"]
    pressed: float = 0.0


@dataclass(frozen=True)
class Task:
    """family: which scene. target: row of the object that the instruction names. layout: random generator -> initial
    Scene. left: metres still to go. done, broken: of (initial, present). expert: (scene, ways, target) -> action."""

    family: str
    instructions: tuple[str, ...]
    layout: Callable[[np.random.Generator], Scene]
    left: Callable[[Scene, int], float]
    done: Callable[[Scene, int], bool]
    broken: Callable[[Scene, Scene], bool]
    expert: Callable[[Scene, Ways, int], np.ndarray]
    target: int = 0


def _standing(points: np.ndarray, height: float) -> Float64[np.ndarray, "n 7"]:
    """Upright objects of that height at points [n 2] of the table."""
    upright = np.tile([0.0, 0.0, height / 2, 1.0, 0.0, 0.0, 0.0], (len(points), 1))
    upright[:, :2] = points
    return upright


def _towards(place: np.ndarray, hand: np.ndarray, gripper: float, *, gain: float = 1.0) -> np.ndarray:
    """At most one unit per step along the straight line. gripper: 1 closes, -1 opens."""
    motion = gain * (place - hand) / STRIDE
    return np.append(motion / max(1.0, float(np.linalg.norm(motion))), gripper)


def _never(before: Scene, now: Scene) -> bool:
    return False


def _horizontal(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(first[:2] - second[:2]))


# Fork: reach the region behind two pillars without touching them; four ways, equally good. -------------------------


def _fork_layout(random: np.random.Generator) -> Scene:
    """Starts differ little, so that nothing but the demonstrator's whim tells left from right."""
    hand = np.array([random.uniform(-0.005, 0.005), -0.24, 0.05])
    pillars = np.array([[0.0, -0.1], [0.0, 0.12]]) + random.uniform(-0.005, 0.005, (2, 2))
    goal = np.array([random.uniform(-0.03, 0.03), random.uniform(0.22, 0.24), 0.0])
    return Scene(hand, 0.0, _standing(pillars, scene.PILLAR_HEIGHT), goal)


def _fork_left(now: Scene, target: int) -> float:
    return _horizontal(now.hand, now.goal)


def _fork_done(now: Scene, target: int) -> bool:
    return _fork_left(now, target) < 0.02


def _fork_broken(before: Scene, now: Scene) -> bool:
    """A pillar stands elsewhere, or leans."""
    return float(np.abs(now.objects - before.objects).max()) > 0.004


def _fork_expert(now: Scene, ways: Ways, target: int) -> np.ndarray:
    """Straight on towards a pillar, aside, past it, and back to the middle."""
    place, hand = now.goal[:2], now.hand[:2]
    for way, pillar in zip(ways, now.objects[:, :2], strict=True):
        ahead, aside = float(pillar[1] - hand[1]), float(way * (hand[0] - pillar[0]))
        if ahead <= 0:
            continue
        if ahead > 0.122:
            place = pillar - np.array([0.0, 0.12])
        elif aside < 0.065 and ahead > 0.07:
            place = pillar + np.array([way * 0.075, -0.085])
        else:
            place = pillar + np.array([way * 0.085, 0.005])
        break
    return _towards(np.append(place, now.hand[2]), now.hand, 1.0)


# Push: a puck onto a region. -----------------------------------------------------------------------------------------


def _push_layout(random: np.random.Generator) -> Scene:
    while True:
        puck, goal = random.uniform(-0.13, 0.13, 2), random.uniform(-0.13, 0.13, 2)
        if 0.08 < np.linalg.norm(puck - goal) < 0.2:
            break
    hand = np.array([random.uniform(-0.05, 0.05), random.uniform(-0.05, 0.05), 0.12])
    return Scene(hand, 0.0, _standing(puck[None], scene.PUCK_HEIGHT), np.append(goal, 0.0))


def _object_left(now: Scene, target: int) -> float:
    return _horizontal(now.objects[target], now.goal)


def _push_done(now: Scene, target: int) -> bool:
    return _object_left(now, target) < 0.015


def _push_expert(now: Scene, ways: Ways, target: int) -> np.ndarray:
    puck = now.objects[target]
    ahead = (now.goal - puck[:3])[:2]
    ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-6)
    offset = now.hand[:2] - puck[:2]
    along, across = float(offset @ ahead), float(offset[0] * ahead[1] - offset[1] * ahead[0])
    behind = puck[:2] - ahead * (scene.PUCK_RADIUS + 0.022)
    ready = along < 0 and abs(across) < 0.008
    if now.hand[2] < 0.03 and ready:
        return _towards(np.append(puck[:2] - 0.01 * ahead, 0.018), now.hand, 1.0)
    if now.hand[2] < 0.03 and (abs(across) > 0.016 or along > -0.02):
        return _towards(np.append(now.hand[:2], HOVER), now.hand, 1.0)
    if float(np.linalg.norm(behind - now.hand[:2])) > 0.006 and now.hand[2] > 0.03:
        return _towards(np.append(behind, 0.06), now.hand, 1.0)
    return _towards(np.append(behind, 0.018), now.hand, 1.0)


# Precise: a peg into a fixture that leaves 1.5 mm on each side. ------------------------------------------------------


def _precise_layout(random: np.random.Generator) -> Scene:
    peg = np.array([[random.uniform(-0.14, -0.06), random.uniform(-0.1, 0.1)]])
    goal = np.array([random.uniform(0.06, 0.14), random.uniform(-0.1, 0.1), 0.0])
    hand = np.array([random.uniform(-0.03, 0.03), random.uniform(-0.05, 0.05), 0.16])
    return Scene(hand, 1.0, _standing(peg, scene.PEG_HEIGHT), goal)


def _precise_done(now: Scene, target: int) -> bool:
    height = float(now.objects[target][2])
    return _object_left(now, target) < 0.01 and height < scene.PEG_HEIGHT / 2 + scene.FIXTURE_HEIGHT - 0.02


def _precise_broken(before: Scene, now: Scene) -> bool:
    """A peg that does not fit must not be forced."""
    return now.pressed > PRESSED


def _precise_expert(now: Scene, ways: Ways, target: int) -> np.ndarray:
    inserted = scene.PEG_HEIGHT / 2
    above = inserted + scene.FIXTURE_HEIGHT + 0.015
    return _carry(now, now.objects[target], grip=0.022, lift=above, tolerance=0.0006, lower=inserted)


# Pick and place: the named cube into the bowl. -----------------------------------------------------------------------


def _pick_layout(random: np.random.Generator) -> Scene:
    while True:
        places = random.uniform((-0.15, -0.13), (0.15, 0.13), (4, 2))
        gaps = np.linalg.norm(places[:, None] - places, axis=-1) + np.eye(4)
        if gaps.min() > 0.075 and gaps[3].min() > 0.1:
            break
    hand = np.array([random.uniform(-0.05, 0.05), random.uniform(-0.05, 0.05), 0.14])
    return Scene(hand, 1.0, _standing(places[:3], scene.CUBE), np.append(places[3], 0.0))


def _pick_done(now: Scene, target: int) -> bool:
    return _object_left(now, target) < scene.BOWL_RADIUS - 0.01 and float(now.objects[target][2]) < 0.03


def _pick_expert(now: Scene, ways: Ways, target: int) -> np.ndarray:
    return _carry(now, now.objects[target], grip=0.0, lift=0.08, tolerance=0.015, lower=0.05, release=True)


def _carry(
    now: Scene, thing: np.ndarray, *, grip: float, lift: float, tolerance: float, lower: float, release: bool = False
) -> np.ndarray:
    """Grasp `grip` above the thing's centre, lift its centre to `lift`, go over the goal to within `tolerance`, and
    go down until the thing's centre is at `lower`; then open if `release`."""
    at = thing[:3] + np.array([0.0, 0.0, grip])
    offset = now.hand - at
    beside = float(np.linalg.norm(offset[:2]))
    over = thing[:2] - now.goal[:2]
    held = beside < 0.012 and abs(offset[2]) < 0.012 and now.opening < 0.75
    if not held:
        if beside < 0.006 and abs(offset[2]) < 0.006:
            return np.array([0.0, 0.0, 0.0, 1.0])
        if beside > 0.006 and offset[2] < 0.05:
            return _towards(np.append(now.hand[:2] if beside > 0.03 else at[:2], at[2] + 0.07), now.hand, -1.0)
        height = at[2] if beside < 0.006 else at[2] + 0.07
        return _towards(np.append(at[:2], height), now.hand, -1.0, gain=0.7)
    away = float(np.linalg.norm(over))
    if release and away < tolerance and thing[2] < lower + 0.005:
        return np.array([0.0, 0.0, 0.0, -1.0])
    if away > 0.02 and thing[2] < lift:
        return _towards(now.hand + np.array([0.0, 0.0, 0.03]), now.hand, 1.0)
    # The better aligned, the faster down: a threshold would teach a clone to hover for ever in front of it.
    down = 0.008 * float(np.clip(1.5 - away / (2 * tolerance), 0.0, 1.0))
    place = now.hand - np.append(over, min(down, thing[2] - lower))
    return _towards(place, now.hand, 1.0, gain=0.5)


def _pick(target: int, colour: str) -> Task:
    return Task(
        family="pick-place",
        instructions=(f"put the {colour} cube into the bowl", f"place the {colour} block in the bowl",
                      f"pick up the {colour} cube and drop it into the yellow bowl"),
        layout=_pick_layout, left=_object_left, done=_pick_done, broken=_never, expert=_pick_expert, target=target,
    )  # fmt: skip


TASKS = {
    "fork": Task(
        family="fork",
        instructions=("go to the yellow region without touching the red pillar",
                      "move around the red pillar to the yellow disc"),
        layout=_fork_layout, left=_fork_left, done=_fork_done, broken=_fork_broken, expert=_fork_expert,
    ),
    "precise": Task(
        family="precise",
        instructions=("insert the blue peg into the fixture", "put the blue peg into the square hole"),
        layout=_precise_layout, left=_object_left, done=_precise_done, broken=_precise_broken, expert=_precise_expert,
    ),
    "push": Task(
        family="push",
        instructions=("push the red puck onto the yellow region", "slide the red puck to the yellow disc"),
        layout=_push_layout, left=_object_left, done=_push_done, broken=_never, expert=_push_expert,
    ),
    **{f"pick-place-{colour}": _pick(number, colour) for number, colour in enumerate(scene.COLOURS)},
}  # fmt: skip
