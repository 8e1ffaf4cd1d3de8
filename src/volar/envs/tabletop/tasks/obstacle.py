"""Obstacle: a cube to a region, with something in the way at a chosen fraction of the straight path.

Several ways around or over it are equally good; their mean touches it, and touching ends the episode.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from volar.core.evidence import Signs, Stage
from volar.envs.tabletop import scene
from volar.envs.tabletop.motions import Action, carry, towards
from volar.envs.tabletop.task import GRASP, REACH, Family, Scene, Task, Ways, horizontal, standing

TOUCHED = 0.1  # newtons
SCREENS = (10, 20, 40, 60, 80)  # percent of the straight path at which a screen may stand
PLACED = 0.025  # metres from the region's centre
MARGIN = 0.033  # metres between the top of the obstacle and a cube that is carried over it


@dataclass(frozen=True, kw_only=True)
class Hindrance:
    """parts: what stands there. height: of it, in metres. aside: metres from its centre at which a carried cube passes
    beside it, None where there is no way around. over: whether the hand gets over it. length: of the straight path,
    metres. spread: metres to each side of the cube within which the hand begins."""

    parts: tuple[str, ...]
    height: float
    aside: float | None
    over: bool
    length: tuple[float, float] = (0.30, 0.36)
    spread: float = 0.03


def _pillar(height: float) -> str:
    return (
        f'<geom type="cylinder" size="{scene.PILLAR_RADIUS} {height / 2}" pos="0 0 {height / 2}" '
        f'rgba="{scene.COLOURS["red"]}"/>'
    )


def _wall(half_length: float, half_width: float, height: float, y: float = 0.0) -> str:
    return (
        f'<geom type="box" size="{half_length} {half_width} {height / 2}" pos="0 {y} {height / 2}" '
        f'rgba="{scene.COLOURS["red"]}"/>'
    )


# The carrying hand is 4.8 cm wide across the path; the narrow ways leave it 1.5 cm on each side.
NARROW = scene.PILLAR_RADIUS + 0.078
HINDRANCES = {
    "": Hindrance(parts=(_pillar(0.1),), height=0.1, aside=0.085, over=True),
    "-tall": Hindrance(parts=(_pillar(0.24),), height=0.24, aside=0.085, over=False),
    "-wide": Hindrance(parts=(_wall(0.01, 0.14, 0.08),), height=0.08, aside=None, over=True),
    "-narrow": Hindrance(
        parts=(_pillar(0.1), *(_wall(0.05, 0.005, 0.1, side * (NARROW + 0.005)) for side in (-1, 1))),
        height=0.1, aside=scene.PILLAR_RADIUS + 0.039, over=False,
    ),
    # A carried cube clears it 9 cm beside the straight path and never above. The path is long enough for the hand to
    # grip the cube a tenth of it before the screen.
    "-screen": Hindrance(
        parts=(_wall(0.005, 0.066, 0.24),), height=0.24, aside=0.105, over=False, length=(0.42, 0.45), spread=0.008,
    ),
}  # fmt: skip


def _family(kind: str) -> Family:
    touch = '<site name="fixture" type="box" size="0.3 0.3 0.3" rgba="0 0 0 0"/>'
    return Family(
        name=f"obstacle{kind}",
        things=(
            scene.free(1, scene.CUBE, scene.COLOURS["blue"]),
            scene.goal([scene.region(0.03)]),
            scene.goal([touch, *HINDRANCES[kind].parts], "obstacle"),
        ),
        signs=Signs(
            stages=(REACH, GRASP, Stage(name="place", measure="left", below=PLACED, missed="wrong place")),
            terminated="collision",
        ),
        objects=("object_1",),
        goals=("goal", "obstacle"),
        words=("blue cube", "yellow region", "red obstacle"),
    )


def _layout(hindrance: Hindrance, fraction: float, random: np.random.Generator) -> Scene:
    """A path along x, either way; the cube may lie 2 cm to the side of the straight line."""
    way, half, y = random.choice((-1.0, 1.0)), random.uniform(*hindrance.length) / 2, random.uniform(-0.06, 0.06)
    cube = np.array([-way * half, y + random.uniform(-0.02, 0.02)])
    goal = np.array([way * half, y + random.uniform(-0.02, 0.02)])
    hand = np.append(cube + random.uniform(-hindrance.spread, hindrance.spread, 2), 0.14)
    goals = np.array([[*goal, 0.0], [*(cube + fraction * (goal - cube)), 0.0]])
    return Scene(hand, 1.0, standing(cube[None], scene.CUBE_SIDE), goals)


def _left(now: Scene) -> float:
    return horizontal(now.objects[0], now.goal)


def _done(now: Scene) -> bool:
    """In the region, on the table and let go."""
    return _left(now) < PLACED and float(now.objects[0, 2]) < 0.02 and now.opening > 0.6


def _broken(before: Scene, now: Scene) -> bool:
    return now.pressed > TOUCHED


def _expert(hindrance: Hindrance, now: Scene, ways: Ways) -> Action:
    """Over it if the second choice says so, else left or right of it by the first, as seen along the path."""
    cube, aside = now.objects[0], hindrance.aside
    if aside is None or (hindrance.over and ways[1] > 0):
        return carry(now, cube, now.goal, grip=0.0, lift=hindrance.height + MARGIN + scene.CUBE_SIDE / 2,
                     tolerance=0.008, lower=0.016, release=True)  # fmt: skip
    obstacle, goal = now.goals[1, :2], now.goals[0, :2]
    ahead = (goal - obstacle) / float(np.linalg.norm(goal - obstacle))
    side = ways[0] * np.array([ahead[1], -ahead[0]])
    along, beside = float((cube[:2] - obstacle) @ ahead), float((cube[:2] - obstacle) @ side)
    if cube[2] > 0.05 and along < 0.05:
        # First aside, in front of it, then past it.
        place = obstacle + aside * side + ahead * (-0.075 if along < 0 and beside < aside - 0.012 else along + 0.05)
        return towards(np.append(place, 0.08), now.hand, 1.0)
    return carry(now, cube, now.goal, grip=0.0, lift=0.08, tolerance=0.008, lower=0.016, release=True)


def _task(kind: str, fraction: float) -> Task:
    return Task(
        family=_FAMILIES[kind],
        instructions=("put the blue cube onto the yellow region without touching the red obstacle",
                      "bring the blue block around or over the red obstacle to the yellow disc"),
        layout=partial(_layout, HINDRANCES[kind], fraction), left=_left, done=_done, broken=_broken,
        expert=partial(_expert, HINDRANCES[kind]),
    )  # fmt: skip


_FAMILIES = {kind: _family(kind) for kind in HINDRANCES}
TASKS = {
    **{f"obstacle-{percent}": _task("", percent / 100) for percent in (25, 50, 75)},
    **{f"obstacle-50{kind}": _task(kind, 0.5) for kind in HINDRANCES if kind and kind != "-screen"},
    **{f"obstacle-{percent}-screen": _task("-screen", percent / 100) for percent in SCREENS},
}
