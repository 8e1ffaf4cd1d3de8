"""Precise: a peg into a fixture that leaves 1.5 mm on each side."""

import numpy as np

from volar.core.evidence import Signs, Stage
from volar.envs.tabletop import scene
from volar.envs.tabletop.motions import Action, carry
from volar.envs.tabletop.task import GRASP, REACH, Family, Scene, Task, Ways, horizontal, standing

PRESSED = 10.0  # newtons that the fixture bears; a peg that slides in presses with 1 to 3
FAMILY = Family(
    name="precise",
    words=("blue peg", "fixture"),
    things=(scene.free(1, scene.PEG, scene.COLOURS["blue"]), scene.goal(scene.fixture())),
    signs=Signs(stages=(REACH, GRASP, Stage(name="place", measure="left", below=0.01, missed="wrong place"))),
)


def _layout(random: np.random.Generator) -> Scene:
    peg = np.array([[random.uniform(-0.14, -0.06), random.uniform(-0.1, 0.1)]])
    goal = np.array([random.uniform(0.06, 0.14), random.uniform(-0.1, 0.1), 0.0])
    hand = np.array([random.uniform(-0.03, 0.03), random.uniform(-0.05, 0.05), 0.16])
    return Scene(hand, 1.0, standing(peg, scene.PEG_HEIGHT), goal[None])


def _left(now: Scene) -> float:
    return horizontal(now.objects[0], now.goal)


def _done(now: Scene) -> bool:
    height = float(now.objects[0][2])
    return _left(now) < 0.01 and height < scene.PEG_HEIGHT / 2 + scene.FIXTURE_HEIGHT - 0.02


def _broken(before: Scene, now: Scene) -> bool:
    """A peg that does not fit must not be forced."""
    return now.pressed > PRESSED


def _expert(now: Scene, ways: Ways) -> Action:
    inserted = scene.PEG_HEIGHT / 2
    above = inserted + scene.FIXTURE_HEIGHT + 0.015
    return carry(now, now.objects[0], now.goal, grip=0.022, lift=above, tolerance=0.0006, lower=inserted)


TASKS = {
    "precise": Task(
        family=FAMILY,
        instructions=("insert the blue peg into the fixture", "put the blue peg into the square hole"),
        layout=_layout, left=_left, done=_done, broken=_broken, expert=_expert,
    )
}  # fmt: skip
