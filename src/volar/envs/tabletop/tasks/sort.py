"""Sort: one of three cubes onto one of three regions, straight, by way of another region, or one cube after another.

All tasks share their scenes, so only the words tell which cube and which region; some pairs training never shows.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import permutations, product

import numpy as np

from volar.core.evidence import Mishap, Signs, Stage
from volar.envs.tabletop import scene
from volar.envs.tabletop.motions import Action, carry, towards
from volar.envs.tabletop.task import GRASP, REACH, Family, Scene, Task, Ways, horizontal, standing

CUBES = tuple(scene.COLOURS)
REGIONS = {"white": "0.97 0.97 0.97 1", "yellow": scene.GOAL_COLOUR, "purple": "0.55 0.2 0.65 1"}
PLACES = tuple(REGIONS)
RADIUS, PLACED = 0.045, 0.04  # metres: of a region, and from its centre to that of a cube that lies on it
CLEAR, OPEN = 0.06, 0.6  # metres that the hand is above a cube, and opening of the fingers, once it is let go
HALF = (0.19, 0.14)  # metres from the table's middle, within which things lie
CUBE_GAP, REGION_GAP, BETWEEN = 0.08, 0.12, 0.085  # metres between centres of cubes, of regions, of one and the other

Move = tuple[str, str]  # a cube's colour and a region's

FAMILY = Family(
    name="sort",
    things=(
        *(scene.free(number, scene.CUBE, rgba) for number, rgba in enumerate(scene.COLOURS.values(), start=1)),
        *(scene.goal([scene.region(RADIUS, rgba)], f"region_{colour}") for colour, rgba in REGIONS.items()),
    ),
    signs=Signs(
        stages=(
            REACH,
            GRASP,
            Stage(name="first move", measure="moves_done", above=0.5, missed="wrong place"),
            Stage(name="all moves", measure="moves_left", below=0.5, missed="chain broken"),
        ),
        mishaps=(Mishap(cause="wrong object", measure="others_moved", above=0.03),),
    ),
    objects=tuple(f"{colour}_cube" for colour in CUBES),
    goals=tuple(f"{colour}_region" for colour in PLACES),
)


def _layout(random: np.random.Generator) -> Scene:
    """notes: how many moves are done."""
    count = len(PLACES)
    while True:
        points = random.uniform(np.negative(HALF), HALF, (count + len(CUBES), 2))
        gaps = np.linalg.norm(points[:, None] - points, axis=-1) + np.eye(len(points))
        near = gaps[:count, :count].min() < REGION_GAP or gaps[count:, count:].min() < CUBE_GAP
        if not near and gaps[:count, count:].min() > BETWEEN:
            break
    goals = np.column_stack([points[:count], np.zeros(count)])
    hand = np.array([random.uniform(-0.05, 0.05), random.uniform(-0.05, 0.05), 0.14])
    return Scene(hand, 1.0, standing(points[count:], scene.CUBE_SIDE), goals, notes=np.zeros(1))


def _done_moves(now: Scene) -> int:
    return int(now.notes[0])


def _present(moves: tuple[Move, ...], now: Scene) -> tuple[int, int]:
    """Rows of the cube and the region of the present move; of the last when all are done."""
    cube, place = moves[min(_done_moves(now), len(moves) - 1)]
    return CUBES.index(cube), PLACES.index(place)


def _left(moves: tuple[Move, ...], now: Scene) -> float:
    """Metres of the present move."""
    cube, place = _present(moves, now)
    return horizontal(now.objects[cube], now.goals[place])


def _lies(moves: tuple[Move, ...], now: Scene) -> bool:
    cube, _ = _present(moves, now)
    return _left(moves, now) < PLACED and float(now.objects[cube, 2]) < scene.CUBE_SIDE / 2 + 0.008


def _advance(moves: tuple[Move, ...], before: Scene, now: Scene) -> Scene:
    """A move is done once its cube lies on its region, let go by a hand that has left it; it is never taken back. An
    end at the opening of the fingers would leave hardly a frame from which to learn when to open them."""
    cube, _ = _present(moves, now)
    let_go = now.opening > OPEN and float(now.hand[2] - now.objects[cube, 2]) > CLEAR
    if _done_moves(now) < len(moves) and _lies(moves, now) and let_go:
        return replace(now, notes=now.notes + 1)
    return now


def _done(moves: tuple[Move, ...], now: Scene) -> bool:
    return _done_moves(now) == len(moves)


def _facts(moves: tuple[Move, ...], now: Scene) -> Mapping[str, float]:
    done = _done_moves(now)
    return {"moves_done": float(done), "moves_left": float(len(moves) - done)}


def _expert(moves: tuple[Move, ...], now: Scene, ways: Ways) -> Action:
    cube, place = _present(moves, now)
    if _lies(moves, now):
        up = 0.08 if now.opening > OPEN else 0.0
        return towards(now.hand + np.array([0.0, 0.0, up]), now.hand, -1.0)
    return carry(now, now.objects[cube], now.goals[place], grip=0.0, lift=0.07, tolerance=0.015,
                 lower=scene.CUBE_SIDE / 2 + 0.01, release=True)  # fmt: skip


def _target(moves: tuple[Move, ...], now: Scene) -> int:
    return _present(moves, now)[0]


def _words(moves: tuple[Move, ...]) -> tuple[str, ...]:
    """Ways to say it. A cube that is moved again is not named again."""
    said = []
    for verb, thing, onto in (("put", "cube", "onto"), ("place", "block", "on"), ("move", "cube", "to")):
        parts, last = [], ""
        for cube, place in moves:
            what = "" if cube == last else f"{verb} the {cube} {thing} "
            parts.append(f"{what}{onto} the {place} region")
            last = cube
        said.append(", then ".join(parts))
    return tuple(said)


def _task(moves: tuple[Move, ...]) -> Task:
    return Task(
        family=FAMILY,
        instructions=_words(moves),
        layout=_layout, left=partial(_left, moves), done=partial(_done, moves), expert=partial(_expert, moves),
        target=partial(_target, moves), advance=partial(_advance, moves), facts=partial(_facts, moves),
    )  # fmt: skip


STRAIGHT = {f"sort-{cube}-to-{place}": ((cube, place),) for cube, place in product(CUBES, PLACES)}
# The detour tells whether a policy can go straight that was only shown the way round, and needs to know what is done.
BY = {
    f"sort-{cube}-by-{way}-to-{place}": ((cube, way), (cube, place))
    for cube, (way, place) in product(CUBES, permutations(PLACES, 2))
}
TWO = {
    f"sort-{first}-to-{place}-then-{second}-to-{other}": ((first, place), (second, other))
    for (first, second), (place, other) in product(permutations(CUBES, 2), permutations(PLACES, 2))
}
HELD_OUT = tuple(f"sort-{cube}-to-{place}" for cube, place in zip(CUBES, ("purple", "white", "yellow"), strict=True))
TRAINED = tuple(name for name in STRAIGHT if name not in HELD_OUT)
MOVES = {**STRAIGHT, **BY, **TWO}
TASKS = {name: _task(moves) for name, moves in MOVES.items()}
