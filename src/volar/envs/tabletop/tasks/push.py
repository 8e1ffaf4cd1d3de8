"""Push: a puck onto a region."""

import numpy as np

from volar.core.evidence import Signs, Stage
from volar.envs.tabletop import scene
from volar.envs.tabletop.motions import Action, push
from volar.envs.tabletop.task import REACH, Family, Scene, Task, Ways, horizontal, standing

FAMILY = Family(
    name="push",
    words=("red puck", "yellow region"),
    things=(scene.free(1, scene.PUCK, scene.COLOURS["red"]), scene.goal([scene.region(0.03)])),
    signs=Signs(
        stages=(
            REACH,
            Stage(name="move", measure="object_moved", above=0.01, missed="no contact"),
            Stage(name="place", measure="left", below=0.015, missed="wrong place", lost="wrong place"),
        )
    ),
)


def _layout(random: np.random.Generator) -> Scene:
    while True:
        puck, goal = random.uniform(-0.13, 0.13, 2), random.uniform(-0.13, 0.13, 2)
        if 0.08 < np.linalg.norm(puck - goal) < 0.2:
            break
    hand = np.array([random.uniform(-0.05, 0.05), random.uniform(-0.05, 0.05), 0.12])
    return Scene(hand, 0.0, standing(puck[None], scene.PUCK_HEIGHT), np.append(goal, 0.0)[None])


def _left(now: Scene) -> float:
    return horizontal(now.objects[0], now.goal)


def _done(now: Scene) -> bool:
    return _left(now) < 0.015


def _expert(now: Scene, ways: Ways) -> Action:
    return push(now, now.objects[0], now.goal, scene.PUCK_RADIUS)


TASKS = {
    "push": Task(
        family=FAMILY,
        instructions=("push the red puck onto the yellow region", "slide the red puck to the yellow disc"),
        layout=_layout, left=_left, done=_done, expert=_expert,
    )
}  # fmt: skip
