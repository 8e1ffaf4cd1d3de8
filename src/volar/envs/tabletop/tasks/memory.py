"""Memory: a lamp over one of two bowls shines for a second; which bowl it was is asked when it has long gone out.

From then on nothing in sight tells, so a policy without memory is right half of the time. Cue, delay, choice as in
MIKASA-Robo (arXiv 2502.10550).
"""

from dataclasses import replace
from functools import partial

import numpy as np

from volar.core.evidence import Signs, Stage
from volar.envs.tabletop import scene
from volar.envs.tabletop.motions import Action, carry, towards
from volar.envs.tabletop.task import GRASP, REACH, Family, Scene, Task, Ways, horizontal, standing

CUE = 1.0  # seconds that the lamp shines
DELAYS = (0, 1, 5, 20)  # seconds between the lamp's end and the fence's; with 0 the lamp shines on, as a control
SINKING = 0.1  # metres per second at which the fence goes into the table
FENCE_HEIGHT, FENCE_GAP = 0.05, 0.005  # gap: on each side of the cube, too little for a finger
BELOW = -0.2  # metres: out of sight, under the table
LAMP_HEIGHT = 0.06
PLACED = scene.BOWL_RADIUS - 0.01
WAIT = 0.14  # height of the hand until the fence is down


def _fence() -> list[str]:
    """Four walls around the cube, too close and too thick for fingers to get at it from inside or outside."""
    inner, wall, half = scene.CUBE_SIDE / 2 + FENCE_GAP, 0.012, FENCE_HEIGHT / 2
    walls = [(wall, inner + 2 * wall, side * (inner + wall), 0.0) for side in (-1, 1)]
    walls += [(inner, wall, 0.0, side * (inner + wall)) for side in (-1, 1)]
    return [
        f'<geom type="box" size="{x} {y} {half}" pos="{at_x} {at_y} {half}" rgba="0.45 0.45 0.5 1"/>'
        for x, y, at_x, at_y in walls
    ]


LAMP, FENCE = 2, 3  # rows of goals, after the two bowls
FAMILY = Family(
    name="memory",
    things=(
        scene.free(1, scene.CUBE, scene.COLOURS["blue"]),
        scene.goal(scene.bowl(), "bowl_left"),
        scene.goal(scene.bowl(), "bowl_right"),
        scene.goal(['<geom class="drawn" type="sphere" size="0.025" rgba="0.1 0.9 0.9 1"/>'], "lamp"),
        scene.goal(_fence(), "fence"),
    ),
    signs=Signs(
        stages=(REACH, GRASP, Stage(name="place", measure="left", below=PLACED, missed="wrong place")),
        terminated="wrong bowl",
    ),
    objects=("object_1",),
    goals=("bowl_left", "bowl_right", "lamp", "fence"),
)


def _layout(random: np.random.Generator) -> Scene:
    """notes: the row of the bowl that the cue means."""
    cube = random.uniform((-0.01, -0.07), (0.01, -0.05))
    left, right = random.uniform((-0.14, 0.03), (-0.1, 0.09)), random.uniform((0.1, 0.03), (0.14, 0.09))
    cued = int(random.integers(2))
    goals = np.array([[*left, 0.0], [*right, 0.0], [*(left, right)[cued], LAMP_HEIGHT], [*cube, 0.0]])
    hand = np.append(cube, WAIT)
    return Scene(hand, 1.0, standing(cube[None], scene.CUBE_SIDE), goals, notes=np.array([float(cued)]))


def _cued(now: Scene) -> int:
    return int(now.notes[0])


def _advance(delay: float, before: Scene, now: Scene) -> Scene:
    """The lamp goes out, or stays if there is no delay; later the fence sinks."""
    goals, over = now.goals.copy(), now.time - CUE
    goals[LAMP] = (*goals[_cued(now), :2], LAMP_HEIGHT) if over < 0 or not delay else (0.0, 0.0, BELOW)
    goals[FENCE, 2] = -float(np.clip(SINKING * (over - delay), 0.0, FENCE_HEIGHT + 0.01))
    return replace(now, goals=goals)


def _left(now: Scene) -> float:
    return horizontal(now.objects[0], now.goals[_cued(now)])


def _in_bowl(now: Scene, bowl: int) -> bool:
    return horizontal(now.objects[0], now.goals[bowl]) < PLACED and float(now.objects[0, 2]) < 0.03


def _done(now: Scene) -> bool:
    return _in_bowl(now, _cued(now))


def _broken(before: Scene, now: Scene) -> bool:
    return _in_bowl(now, 1 - _cued(now))


def _expert(now: Scene, ways: Ways) -> Action:
    """Waits over the cube, where nothing gives away what it knows."""
    if now.goals[FENCE, 2] > -FENCE_HEIGHT:
        return towards(np.append(now.goals[FENCE, :2], WAIT), now.hand, -1.0)
    goal = now.goals[_cued(now)]
    return carry(now, now.objects[0], goal, grip=0.0, lift=0.08, tolerance=0.015, lower=0.05, release=True)


TASKS = {
    f"memory-{delay}": Task(
        family=FAMILY,
        instructions=("put the blue cube into the bowl that the lamp showed",
                      "drop the blue block in the bowl over which the light was"),
        layout=partial(_layout),  # one each: words do not tell these tasks apart, as they do where layouts are shared
        left=_left, done=_done, broken=_broken, expert=_expert, advance=partial(_advance, float(delay)),
    )
    for delay in DELAYS
}  # fmt: skip
