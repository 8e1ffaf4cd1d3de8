"""Horizon: chains of 1 to 50 sub-tasks, each a named cube to a named place, in their order.

The instruction is the present sub-task, as in CALVIN (arXiv 2112.03227); in `horizon-plan-*` it is the whole plan from
the beginning to the end. In `horizon-*-knocked` cubes are knocked away from under the hand, and must be fetched.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float64

from volar.core.evidence import Mishap, Signs, Stage
from volar.envs.tabletop import scene
from volar.envs.tabletop.motions import Action, carry
from volar.envs.tabletop.task import GRASP, REACH, Family, Scene, Task, Ways, horizontal, standing

LENGTHS = (1, 2, 5, 10, 20, 50)
PLANS = (2, 4, 5)
KNOCK_DISTANCE = 0.06  # metres between hand and cube at which it is knocked
KNOCK = (0.45, 0.8)  # metres per second: along the table, and up
KNOCK_SPREAD = 0.8  # radians to either side of the direction to the table's middle
CUBES = tuple(scene.COLOURS)
REGIONS = {
    "yellow": scene.GOAL_COLOUR, "white": "0.97 0.97 0.97 1", "black": "0.1 0.1 0.1 1", "purple": "0.55 0.2 0.65 1",
}  # fmt: skip
PLACED = 0.025  # metres between the centres of cube and region


FAMILY = Family(
    name="horizon",
    things=(
        *(scene.free(number, scene.CUBE, rgba) for number, rgba in enumerate(scene.COLOURS.values(), start=1)),
        *(scene.goal([scene.region(0.03, rgba)], f"region_{colour}") for colour, rgba in REGIONS.items()),
    ),
    signs=Signs(
        stages=(
            REACH,
            GRASP,
            Stage(name="first sub-task", measure="share_done", above=0.0, missed="wrong place"),
            Stage(name="half of the chain", measure="share_done", above=0.499, missed="chain broken early"),
            Stage(name="whole chain", measure="share_done", above=0.999, missed="chain broken late"),
        ),
        mishaps=(Mishap(cause="wrong object", measure="others_moved", above=0.03),),
    ),
    objects=tuple(f"{colour}_cube" for colour in CUBES),
    goals=tuple(f"region_{colour}" for colour in REGIONS),
    words=(*(f"{colour} cube" for colour in CUBES), *(f"{colour} region" for colour in REGIONS)),
)


@dataclass(frozen=True)
class Chain:
    """What a task remembers, kept in `Scene.notes`. plan: rows of cube, place, and the angle in radians at which the
    cube is knocked away, NaN where it is not. since: where the cubes lay when the present sub-task began, NaN until the
    first step. done: sub-tasks so far. knocked: whether the present one's cube was. knocks: in the episode. recovered:
    sub-tasks that were done in spite of one."""

    plan: Float64[np.ndarray, "n 3"]
    since: Float64[np.ndarray, "c 3"]
    done: int = 0
    knocked: bool = False
    knocks: int = 0
    recovered: int = 0

    def notes(self) -> Float64[np.ndarray, " k"]:
        counts = [self.done, self.knocked, self.knocks, self.recovered]
        return np.concatenate([counts, self.since.ravel(), self.plan.ravel()])

    @classmethod
    def of(cls, now: Scene) -> "Chain":
        notes, plan = now.notes, 4 + 3 * len(CUBES)
        return cls(notes[plan:].reshape(-1, 3), notes[4:plan].reshape(-1, 3), int(notes[0]), bool(notes[1]),
                   int(notes[2]), int(notes[3]))  # fmt: skip

    @property
    def cube(self) -> int:
        """Of the present sub-task; of the last when all are done."""
        return int(self.plan[min(self.done, len(self.plan) - 1), 0])

    @property
    def place(self) -> int:
        return int(self.plan[min(self.done, len(self.plan) - 1), 1])

    @property
    def angle(self) -> float:
        return float(self.plan[min(self.done, len(self.plan) - 1), 2])


def _layout(length: int, knocked: bool, random: np.random.Generator) -> Scene:
    """The same places and plan with and without knocks."""
    while True:
        points = random.uniform((-0.19, -0.14), (0.19, 0.14), (len(REGIONS) + len(CUBES), 2))
        gaps = np.linalg.norm(points[:, None] - points, axis=-1) + np.eye(len(points))
        if gaps.min() > 0.08 and gaps[: len(REGIONS), : len(REGIONS)].min() > 0.115:
            break
    goals = np.column_stack([points[: len(REGIONS)], np.zeros(len(REGIONS))])
    cubes = standing(points[len(REGIONS) :], scene.CUBE_SIDE)
    hand = np.array([random.uniform(-0.05, 0.05), random.uniform(-0.05, 0.05), 0.14])
    plan = np.column_stack([_plan(length, random), np.full(length, np.nan)])
    if knocked:
        struck = random.random(length) < 0.5
        struck[random.integers(length)] = True
        plan[struck, 2] = random.uniform(-KNOCK_SPREAD, KNOCK_SPREAD, int(struck.sum()))
    return Scene(hand, 1.0, cubes, goals, notes=Chain(plan, np.full((len(CUBES), 3), np.nan)).notes())


def _plan(length: int, random: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
    """Another cube every time, to a place that is free by then."""
    at: dict[int, int] = {}
    steps: list[tuple[int, int]] = []
    for _ in range(length):
        cube = int(random.choice([cube for cube in range(len(CUBES)) if not steps or cube != steps[-1][0]]))
        at[cube] = int(random.choice([place for place in range(len(REGIONS)) if place not in at.values()]))
        steps.append((cube, at[cube]))
    return np.array(steps, dtype=float)


def _advance(before: Scene, now: Scene) -> Scene:
    """Counts what is done, and knocks the cube away once, when the hand comes for it."""
    chain, kicks = Chain.of(now), np.zeros((len(CUBES), 3))
    if chain.done == len(chain.plan):
        return now
    if np.isnan(chain.since).any():
        chain = replace(chain, since=before.objects[:, :3])
    cube = now.objects[chain.cube, :3]
    if _placed(now, chain.cube, chain.place):
        chain = replace(chain, done=chain.done + 1, knocked=False, recovered=chain.recovered + chain.knocked,
                        since=now.objects[:, :3])  # fmt: skip
    elif not (chain.knocked or np.isnan(chain.angle)) and float(np.linalg.norm(now.hand - cube)) < KNOCK_DISTANCE:
        angle = float(np.arctan2(-cube[1], -cube[0])) + chain.angle
        kicks[chain.cube] = (KNOCK[0] * np.cos(angle), KNOCK[0] * np.sin(angle), KNOCK[1])
        chain = replace(chain, knocked=True, knocks=chain.knocks + 1)
    return replace(now, notes=chain.notes(), kicks=kicks)


def _placed(now: Scene, cube: int, place: int) -> bool:
    """In the region, on the table and let go."""
    near = horizontal(now.objects[cube], now.goals[place]) < PLACED
    return near and float(now.objects[cube, 2]) < 0.02 and now.opening > 0.6


def _target(now: Scene) -> int:
    return Chain.of(now).cube


def _left(now: Scene) -> float:
    """Metres of the present sub-task; 0 when all are done."""
    chain = Chain.of(now)
    return 0.0 if _done(now) else horizontal(now.objects[chain.cube], now.goals[chain.place])


def _done(now: Scene) -> bool:
    chain = Chain.of(now)
    return chain.done == len(chain.plan)


def _facts(now: Scene) -> Mapping[str, float]:
    chain = Chain.of(now)
    others = np.delete(np.linalg.norm(now.objects[:, :3] - chain.since, axis=1), chain.cube)
    return {
        "subtasks_done": float(chain.done),
        "share_done": chain.done / len(chain.plan),
        "knocks": float(chain.knocks),
        "recovered": float(chain.recovered),
        "others_moved": float(np.nan_to_num(others).max()),
    }


def _say(now: Scene) -> str:
    chain = Chain.of(now)
    return _words(chain.cube, chain.place)


def _say_all(now: Scene) -> str:
    return ", then ".join(_words(int(cube), int(place)) for cube, place, _ in Chain.of(now).plan)


def _words(cube: int, place: int) -> str:
    return f"put the {CUBES[cube]} cube onto the {tuple(REGIONS)[place]} region"


def _expert(now: Scene, ways: Ways) -> Action:
    chain = Chain.of(now)
    return carry(now, now.objects[chain.cube], now.goals[chain.place], grip=0.0, lift=0.08,
                 tolerance=0.008, lower=0.016, release=True)  # fmt: skip


def _task(length: int, *, knocked: bool = False, whole: bool = False) -> Task:
    return Task(
        family=FAMILY,
        instructions=("put each named cube onto its named region, one after the other",),
        layout=partial(_layout, length, knocked), left=_left, done=_done, expert=_expert, target=_target,
        advance=_advance, facts=_facts, say=_say_all if whole else _say,
    )  # fmt: skip


TASKS = {
    **{f"horizon-{length}": _task(length) for length in LENGTHS},
    **{f"horizon-{length}-knocked": _task(length, knocked=True) for length in LENGTHS},
    **{f"horizon-plan-{length}": _task(length, whole=True) for length in PLANS},
}
