"""The scene that all commands share: nine things of which six are in play, bowls, regions, a drawer and a button.

The same seed gives the same table whatever is asked for, so that only the words tell what to do.
"""

import numpy as np
from jaxtyping import Bool, Float64

from volar.core.errors import ConfigError
from volar.core.evidence import Signs
from volar.envs.tabletop import scene
from volar.envs.tabletop.grammar import THINGS
from volar.envs.tabletop.task import Family, Scene, standing

ROWS = {name: row for row, name in enumerate(THINGS)}
GOALS = {name: row for row, name in enumerate(
    ("yellow-bowl", "blue-bowl", "yellow-region", "purple-region", "drawer", "button")
)}  # fmt: skip
# Every colour twice and every shape twice, so that neither alone tells a thing.
SEEN = ("red-cube", "red-ball", "green-ball", "green-cylinder", "blue-cylinder", "blue-cube")
NOVEL = ("red-cylinder", "green-cube", "blue-ball")
WITH_NOVEL = (*NOVEL, "red-cube", "green-ball", "blue-cylinder")
REGION = 0.035  # metres, radius
HALF_HEIGHT = {"cube": 0.015, "cylinder": 0.022, "ball": 0.017}  # metres
RADIUS = {"cube": 0.018, "cylinder": 0.014, "ball": 0.017}  # metres; of a cube between half a side and half a diagonal
WIDTH = {"cube": 0.03, "cylinder": 0.025, "ball": 0.034}  # metres, between the fingers
GAP, GOAL_GAP = 0.07, 0.09  # metres between centres of things, and from a thing to a bowl or region
SPOT_GAP, SPOT_GOAL_GAP = 0.036, 0.07  # metres between centres, where one more thing could be put down
SPOTS = np.array([[x, y] for x in (0.044, 0.053) for y in (0.0, -0.014, 0.014)])  # metres, right of a thing
ATTEMPTS, DARTS = 2000, 60
LOW, HIGH = (-0.1, -0.21), (0.1, 0.02)  # metres, where things may lie
_PURPLE = "0.6 0.2 0.7 1"
# As slippery and as hard as said, whatever they touch: with more friction what is pushed falls over or jams, and softer
# things let the closing fingers sink in and spit them out.
_SURFACE = 'priority="1" solref="0.01 1" solimp="0.97 0.99 0.001"'
_GEOMS = {
    "cube": [f'type="box" size="0.015 0.015 0.015" mass="0.04" friction="0.4 0.005 0.0001" {_SURFACE}'],
    # Felt as four sides, for MuJoCo finds one touching point between a cylinder and a flat finger, and the grip slips.
    "cylinder": [
        'class="drawn" type="cylinder" size="0.015 0.022" mass="0"',
        f'group="3" type="box" size="0.0125 0.0125 0.022" mass="0.04" friction="0.55 0.005 0.0001" {_SURFACE}',
    ],
    "ball": [f'type="sphere" size="0.017" mass="0.03" condim="6" friction="0.4 0.005 0.003" {_SURFACE}'],
}  # fmt: skip


def shape_of(thing: str) -> str:
    return thing.split("-")[1]


def family(name: str, signs: Signs) -> Family:
    """Tasks on the workbench whose failures are told apart by `signs`."""
    things = []
    for thing, row in ROWS.items():
        colour, shape = thing.split("-")
        geom, *more = _GEOMS[shape]
        things.append(scene.free(row, geom, scene.COLOURS[colour], *more))
    goals = {
        "yellow-bowl": scene.bowl(), "blue-bowl": scene.bowl(scene.COLOURS["blue"]),
        "yellow-region": [scene.region(REGION)], "purple-region": [scene.region(REGION, _PURPLE)],
        "drawer": scene.drawer(), "button": scene.button(),
    }  # fmt: skip
    return Family(
        name=name,
        things=(*things, *(scene.goal(goals[goal], goal) for goal in GOALS)),
        signs=signs,
        objects=tuple(thing.replace("-", "_") for thing in ROWS),
        goals=tuple(goal.replace("-", "_") for goal in GOALS),
        joints=("drawer", "button"),
        version=2,
    )


def seen_layout(random: np.random.Generator) -> Scene:
    """With the combinations of colour and shape that training may show."""
    return _layout(SEEN, random)


def novel_layout(random: np.random.Generator) -> Scene:
    """With three combinations that `seen_layout` never shows, of colours and shapes that it does."""
    return _layout(WITH_NOVEL, random)


def _layout(kit: tuple[str, ...], random: np.random.Generator) -> Scene:
    side = random.choice((-1.0, 1.0))
    goals = np.zeros((len(GOALS), 3))
    corners = np.array([[x, y] for x in (-0.18, 0.18) for y in (-0.17, -0.03)])
    goals[:4, :2] = random.permutation(corners) + random.uniform(-0.01, 0.01, (4, 2))
    goals[4, :2] = side * random.uniform(0.08, 0.13), random.uniform(0.155, 0.165)
    goals[5, :2] = -side * random.uniform(0.08, 0.13), random.uniform(0.14, 0.19)
    places = _spread(len(kit), goals[:4, :2], random)
    objects = standing(np.zeros((len(ROWS), 2)), 0.0)
    objects[:, :3] = [[scene.PARKED + row / 10, 0.0, 0.5] for row in range(len(ROWS))]
    for thing, place in zip(kit, places, strict=True):
        objects[ROWS[thing], :3] = *place, HALF_HEIGHT[shape_of(thing)]
    hand = np.array([random.uniform(-0.05, 0.05), random.uniform(-0.03, 0.05), 0.14])
    return Scene(hand, 1.0, objects, goals, joints=np.array([random.uniform(0.05, 0.06), 0.0]))


def _spread(count: int, goals: Float64[np.ndarray, "m 2"], random: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
    """Places for things, apart from each other and from what is around, each with room on its left and on its right."""
    for _ in range(ATTEMPTS):
        places = np.zeros((0, 2))
        for place in random.uniform(LOW, HIGH, (DARTS, 2)):
            near = np.linalg.norm(np.concatenate([places, goals]) - place, axis=1)
            if len(places) < count and (near > np.repeat((GAP, GOAL_GAP), (len(places), len(goals)))).all():
                places = np.append(places, place[None], axis=0)
        if len(places) == count and all(
            free_spots(place, way, places, goals).any() for place in places for way in (-1.0, 1.0)
        ):
            return places
    raise ConfigError(f"No room for {count} things on the workbench in {ATTEMPTS} attempts.")


def free_spots(
    place: Float64[np.ndarray, " 2"], way: float, things: Float64[np.ndarray, "n 2"], goals: Float64[np.ndarray, "m 2"]
) -> Bool[np.ndarray, " k"]:
    """Which of SPOTS beside a place (way: -1 left, 1 right) are free of things and of bowls or regions."""
    spots = place + SPOTS * (way, 1.0)
    return (np.linalg.norm(spots[:, None] - things, axis=-1).min(1) > SPOT_GAP) & (
        np.linalg.norm(spots[:, None] - goals, axis=-1).min(1) > SPOT_GOAL_GAP
    )
