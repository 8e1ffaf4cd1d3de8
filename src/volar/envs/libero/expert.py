"""A scripted expert for LIBERO tasks: it reads poses and shapes of all things from the simulator, takes hold of what
the goal names and puts it where the goal says."""

from collections.abc import Iterator

import numpy as np

from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import Chunk, Env, Observation, PrivilegedActor, RestorableEnv
from volar.envs.libero.grasps import UP, Grasp, clearance, find_grasps, surface_points
from volar.envs.libero.motion import CLOSED, OPEN, Motion, move, stay
from volar.envs.libero.scene import Goal, Scene

EXACT = 0.003  # metres from where the fingers should close
ATTEMPTS = 4  # grasps tried for one thing
LIFTED = 0.02  # metres above where it stood, that prove a grasp
MARGIN = 0.025  # metres above what lies under a carried thing
RELEASE = 0.012  # metres above its support at which a thing is let go
WAY = 0.06  # metres to both sides of the way that must be free


class SceneEnv(RestorableEnv):
    """An Env that shows an expert its scene."""

    scene: Scene


class LiberoExpert(PrivilegedActor):
    """Works off the conditions of the task's goal one after the other, and holds still when it knows nothing more to
    do. A task that asks for more than picking and placing is refused by `bind`."""

    privileged = ("simulator state: poses and shapes of all things",)

    def reset(self, seed: int) -> None:
        pass

    def bind(self, env: Env) -> None:
        if not isinstance(env, SceneEnv):
            raise ConfigError(f"LIBERO's expert acts in LIBERO only, not in {type(env).__name__}.")
        self._scene = env.scene
        for goal in self._scene.goals:
            if goal.predicate not in SKILLS:
                raise unknown_name("skill of LIBERO's expert", goal.predicate, SKILLS)
        self._course = self._work()

    def act(self, observation: Observation) -> Chunk:
        return Chunk(actions=next(self._course)[None], execute=1, evaluations=0)

    def _work(self) -> Motion:
        for goal in ordered(self._scene.goals):
            yield from SKILLS[goal.predicate](self._scene, goal)
        while True:
            yield from stay(self._scene, OPEN, steps=10)


def ordered(goals: tuple[Goal, ...]) -> Iterator[Goal]:
    """What must be done first, first: things are opened and switched before others go in or on, and closed after."""
    order = ("open", "turnon", "turnoff", "on", "in", "close")
    yield from sorted(goals, key=lambda goal: order.index(goal.predicate))


def put(scene: Scene, goal: Goal) -> Motion:
    """Pick and place, again with another grasp where a thing slips or does not end up where it should."""
    assert goal.target is not None
    tried: list[Grasp] = []
    for _ in range(ATTEMPTS):
        before = scene.position(goal.subject)[2]
        yield from pick(scene, goal.subject, tried)
        if scene.position(goal.subject)[2] > before + LIFTED:
            yield from place(scene, goal.subject, goal.target)
        else:
            yield from stay(scene, OPEN, steps=4)
        if scene.met[scene.goals.index(goal)]:
            return


def pick(scene: Scene, name: str, tried: list[Grasp]) -> Motion:
    """Take hold of a thing and lift it off; the grasp is added to `tried`, and those are not tried again."""
    thing, around = scene.boxes_of(name), scene.boxes()
    points = surface_points(scene.gripper())
    options = find_grasps(thing, around, points, scene.hand_rotation)
    fresh = [g for g in options if all(np.linalg.norm(g.position - t.position) > 0.02 for t in tried)]
    grasp = (fresh or options)[0]
    tried.append(grasp)
    yield from go_over(scene, grasp.position[:2], grasp.rotation, OPEN, below=0.02)
    yield from move(scene, grasp.position, grasp.rotation, OPEN, near=EXACT)
    yield from stay(scene, CLOSED, steps=14)  # 8 until the fingers are told to be shut
    yield from move(scene, grasp.position + 0.06 * UP, grasp.rotation, CLOSED, steps=20)


def place(scene: Scene, name: str, target: str) -> Motion:
    """Carry what is held over its target, lower it as far as the gripper may go, let go and withdraw."""
    thing, rotation = scene.boxes_of(name), scene.hand_rotation
    below = scene.hand[2] - thing.corners()[..., 2].min()
    spot = scene.position(target)
    offset = scene.hand - scene.position(name)
    yield from go_over(scene, spot[:2] + offset[:2], rotation, CLOSED, below=below, held=name)
    offset = scene.hand - scene.position(name)
    over = spot[:2] + offset[:2]
    around = scene.boxes(without=name)
    points = surface_points(scene.gripper())
    height = scene.support(spot[:2], without=name) + below + RELEASE
    while clearance(points, np.append(over, height), rotation, around) < 0.01 and height < scene.hand[2]:
        height += 0.01
    yield from move(scene, np.append(over, height), rotation, CLOSED, steps=50)
    yield from stay(scene, OPEN, steps=8)
    yield from move(scene, scene.hand + 0.1 * UP, rotation, OPEN, steps=20)


def go_over(
    scene: Scene, spot: np.ndarray, rotation: np.ndarray, gripper: float, *, below: float, held: str | None = None
) -> Motion:
    """Up, across and over a spot, at a height at which nothing on the way is touched. below: metres that the gripper or
    what it holds reaches under the fingertips."""
    height = scene.highest_on_way(scene.hand[:2], spot, WAY, without=held) + below + MARGIN
    height = max(height, scene.hand[2] if held else height)
    if scene.hand[2] < height - 0.01:
        yield from move(scene, np.append(scene.hand[:2], height), scene.hand_rotation, gripper)
    yield from move(scene, np.append(spot, height), rotation, gripper, steps=90)


SKILLS = {"on": put, "in": put}
