"""Fork: reach the region behind two pillars without touching them; four ways, equally good, whose mean is not."""

import numpy as np

from volar.core.evidence import Signs, Stage
from volar.envs.tabletop import scene
from volar.envs.tabletop.motions import Action, towards
from volar.envs.tabletop.task import Family, Scene, Task, Ways, horizontal, standing

FAMILY = Family(
    name="fork",
    words=("first red pillar", "second red pillar", "yellow region"),
    things=(*(scene.free(number, scene.PILLAR, scene.COLOURS["red"]) for number in (1, 2)),
            scene.goal([scene.region(0.02)])),
    signs=Signs(
        stages=(Stage(name="reach", measure="left", below=0.02, missed="never reached"),), terminated="collision"
    ),
)  # fmt: skip


def _layout(random: np.random.Generator) -> Scene:
    """Starts differ little, so that nothing but the demonstrator's whim tells left from right."""
    hand = np.array([random.uniform(-0.005, 0.005), -0.24, 0.05])
    pillars = np.array([[0.0, -0.1], [0.0, 0.12]]) + random.uniform(-0.005, 0.005, (2, 2))
    goal = np.array([random.uniform(-0.03, 0.03), random.uniform(0.22, 0.24), 0.0])
    return Scene(hand, 0.0, standing(pillars, scene.PILLAR_HEIGHT), goal[None])


def _left(now: Scene) -> float:
    return horizontal(now.hand, now.goal)


def _done(now: Scene) -> bool:
    return _left(now) < 0.02


def _broken(before: Scene, now: Scene) -> bool:
    """A pillar stands elsewhere, or leans."""
    return float(np.abs(now.objects - before.objects).max()) > 0.004


def _expert(now: Scene, ways: Ways) -> Action:
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
    return towards(np.append(place, now.hand[2]), now.hand, 1.0)


TASKS = {
    "fork": Task(
        family=FAMILY,
        instructions=("go to the yellow region without touching the red pillar",
                      "move around the red pillar to the yellow disc"),
        layout=_layout, left=_left, done=_done, broken=_broken, expert=_expert,
    )
}  # fmt: skip
