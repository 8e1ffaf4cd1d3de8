"""Attribute: three things of three sizes, and a description that only the picture can resolve.

The same picture with another description means another thing, and no colour, size, shape or side is always right.
"""

from functools import partial

import numpy as np

from volar.core.evidence import Mishap, Signs, Stage
from volar.envs.tabletop import scene
from volar.envs.tabletop.grammar import DESCRIBED, Command, sentences
from volar.envs.tabletop.motions import Action, carry
from volar.envs.tabletop.task import GRASP, REACH, Family, Scene, Task, Ways, horizontal, standing

SIZES = (0.02, 0.028, 0.038)  # metres: sides of cubes, diameters and heights of cylinders
LOOKS = (("red", "cube"), ("green", "cube"), ("green", "cylinder"), ("blue", "cube"), ("blue", "cylinder"))
KIT = tuple((colour, shape, size) for colour, shape in LOOKS for size in range(len(SIZES)))
DESCRIPTIONS = tuple(DESCRIBED)
COLUMNS = np.array([[-0.11, 0.0], [0.0, 0.0], [0.11, 0.0]])  # metres


def _geom(shape: str, size: float) -> str:
    half = size / 2
    extent = f"{half} {half} {half}" if shape == "cube" else f"{half} {half}"
    return f'type="{"box" if shape == "cube" else "cylinder"}" size="{extent}" mass="0.04"'


FAMILY = Family(
    name="attribute",
    things=(
        *(scene.free(row, _geom(shape, SIZES[size]), scene.COLOURS[colour])
          for row, (colour, shape, size) in enumerate(KIT)),
        scene.goal(scene.bowl()),
    ),
    signs=Signs(
        stages=(REACH, GRASP, Stage(name="place", measure="left", below=0.04, missed="wrong place")),
        mishaps=(Mishap(cause="wrong object", measure="others_moved", above=0.04),),
    ),
    objects=tuple(f"{colour}_{shape}_{('small', 'middle', 'large')[size]}" for colour, shape, size in KIT),
    version=2,
)  # fmt: skip


def _layout(random: np.random.Generator) -> Scene:
    """The red cube in the middle; of the two beside it one is a cube and one is not, one green and one blue. notes: the
    row that each of DESCRIPTIONS means."""
    sizes, colours = random.permutation(len(SIZES)), random.permutation(["green", "blue"])
    shapes = random.permutation(["cube", "cylinder"])
    left, red, right = (
        KIT.index((str(colour), str(shape), int(size)))
        for colour, shape, size in zip(
            (colours[0], "red", colours[1]), (shapes[0], "cube", shapes[1]), sizes, strict=True
        )
    )
    rows = np.array([left, red, right])
    while True:
        places = random.uniform((-0.04, -0.13), (0.04, 0.13), (3, 2)) + COLUMNS
        goal = random.uniform((-0.15, -0.13), (0.15, 0.13))
        if np.linalg.norm(places - goal, axis=1).min() > 0.1:
            break
    objects = standing(np.zeros((len(KIT), 2)), 0.0)
    objects[:, :3] = [[scene.PARKED + row / 10, 0.0, 0.5] for row in range(len(KIT))]
    objects[rows, :2] = places
    objects[rows, 2] = [SIZES[size] / 2 for size in sizes]
    by_size = rows[np.argsort(sizes)]
    other = left if shapes[0] == "cube" else right
    meant = {"largest": by_size[2], "smallest": by_size[0], "left-of-red": left, "right-of-red": right,
             "other-cube": other}  # fmt: skip
    hand = np.array([random.uniform(-0.05, 0.05), random.uniform(-0.05, 0.05), 0.14])
    notes = np.array([float(meant[description]) for description in DESCRIPTIONS])
    return Scene(hand, 1.0, objects, np.append(goal, 0.0)[None], notes=notes)


def _target(description: str, now: Scene) -> int:
    return int(now.notes[DESCRIPTIONS.index(description)])


def _left(description: str, now: Scene) -> float:
    return horizontal(now.objects[_target(description, now)], now.goal)


def _done(description: str, now: Scene) -> bool:
    row = _target(description, now)
    low = float(now.objects[row, 2]) < SIZES[KIT[row][2]] / 2 + 0.012
    return low and _left(description, now) < scene.BOWL_RADIUS - 0.01


def _expert(description: str, now: Scene, ways: Ways) -> Action:
    thing = now.objects[_target(description, now)]
    return carry(now, thing, now.goal, grip=0.0, lift=0.09, tolerance=0.012, lower=0.055, release=True)


TASKS = {
    f"attribute-{description}": Task(
        family=FAMILY,
        instructions=sentences(Command("in", "bowl", description)),
        layout=_layout, left=partial(_left, description), done=partial(_done, description),
        expert=partial(_expert, description), target=partial(_target, description),
    )
    for description in DESCRIPTIONS
}  # fmt: skip
