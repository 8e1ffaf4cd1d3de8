"""Pick and place: the named cube of three into the bowl."""

from functools import partial

import numpy as np

from volar.core.evidence import Mishap, Signs, Stage
from volar.envs.tabletop import scene
from volar.envs.tabletop.motions import Action, carry
from volar.envs.tabletop.task import GRASP, REACH, Family, Scene, Task, Ways, horizontal, standing

FAMILY = Family(
    name="pick-place",
    words=("red cube", "green cube", "blue cube", "yellow bowl"),
    things=(*(scene.free(number, scene.CUBE, rgba) for number, rgba in enumerate(scene.COLOURS.values(), start=1)),
            scene.goal(scene.bowl())),
    signs=Signs(
        stages=(REACH, GRASP, Stage(name="place", measure="left", below=0.03, missed="wrong place")),
        mishaps=(Mishap(cause="wrong object", measure="others_moved", above=0.03),),
    ),
)  # fmt: skip


def _layout(random: np.random.Generator) -> Scene:
    while True:
        places = random.uniform((-0.15, -0.13), (0.15, 0.13), (4, 2))
        gaps = np.linalg.norm(places[:, None] - places, axis=-1) + np.eye(4)
        if gaps.min() > 0.075 and gaps[3].min() > 0.1:
            break
    hand = np.array([random.uniform(-0.05, 0.05), random.uniform(-0.05, 0.05), 0.14])
    return Scene(hand, 1.0, standing(places[:3], scene.CUBE_SIDE), np.append(places[3], 0.0)[None])


def _target(number: int, now: Scene) -> int:
    return number


def _left(number: int, now: Scene) -> float:
    return horizontal(now.objects[number], now.goal)


def _done(number: int, now: Scene) -> bool:
    return _left(number, now) < scene.BOWL_RADIUS - 0.01 and float(now.objects[number][2]) < 0.03


def _expert(number: int, now: Scene, ways: Ways) -> Action:
    return carry(now, now.objects[number], now.goal, grip=0.0, lift=0.08, tolerance=0.015, lower=0.05, release=True)


def _pick(number: int, colour: str) -> Task:
    return Task(
        family=FAMILY,
        instructions=(f"put the {colour} cube into the bowl", f"place the {colour} block in the bowl",
                      f"pick up the {colour} cube and drop it into the yellow bowl"),
        layout=_layout, left=partial(_left, number), done=partial(_done, number), expert=partial(_expert, number),
        target=partial(_target, number),
    )  # fmt: skip


TASKS = {f"pick-place-{colour}": _pick(number, colour) for number, colour in enumerate(scene.COLOURS)}
