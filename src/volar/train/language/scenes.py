"""Tables for lessons, drawn at random: things, places, now and then something in the way, and a hand at some stage of
an errand. Positions only; nothing is simulated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from volar.core.objects import NamedObject
from volar.reasoning.language.scene_rules import Errand, Relation, destination

Random = np.random.Generator
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "purple", "grey", "orange")
LOW, HIGH = np.array([-0.2, -0.15]), np.array([0.2, 0.15])  # metres, where things lie
GAP = 0.075  # metres between centres
FLOOR = 0.013  # metres: as low as a hand goes
ATTEMPTS = 200


@dataclass(frozen=True, kw_only=True)
class Nouns:
    """Words for what may stand on the table. They are the same kinds of bodies, whatever they are called."""

    things: tuple[str, ...]
    containers: tuple[str, ...]
    regions: tuple[str, ...]
    obstacles: tuple[str, ...]


TAUGHT = Nouns(
    things=("cube", "ball", "cylinder", "block", "can", "egg", "key", "toy", "battery"),
    containers=("bowl", "box", "basket", "pan", "drawer"),
    regions=("region", "plate", "mat", "disc"),
    obstacles=("obstacle", "pillar", "wall", "bottle", "screen"),
)
UNHEARD = Nouns(
    things=("sponge", "lemon", "marker", "domino"), containers=("crate", "saucepan"), regions=("coaster", "square"),
    obstacles=("vase", "lamp"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Table:
    """closed: whether the hand is. errands: that can be asked for. last: sub-task that the first of them has come to,
    "" where it has not begun. delivered: that are done already."""

    objects: Mapping[str, NamedObject]
    hand: Float64[np.ndarray, " 3"]
    closed: bool
    last: str
    errands: tuple[Errand, ...]
    delivered: tuple[Errand, ...]
    obstacles: tuple[str, ...]


def random_table(random: Random, nouns: Nouns = TAUGHT) -> Table:
    names, kinds = _Names(random), {"things": nouns.things, "in": nouns.containers, "on": nouns.regions}
    for kind, words in kinds.items():
        if random.random() < 0.4:  # several of one kind, told apart by their colours
            kinds[kind] = (str(random.choice(words)),)
    things = [names.new(kinds["things"]) for _ in range(random.integers(1, 4))]
    places: dict[str, Relation] = {}
    for _ in range(random.integers(1, 4)):
        relation: Relation = "in" if random.random() < 0.5 else "on"
        places[names.new(kinds[relation])] = relation
    obstacles = [names.new(nouns.obstacles)] if random.random() < 0.7 else []
    points = _points(random, len(things) + len(places), corridor=bool(obstacles))
    objects = {}
    for name, point in zip([*things, *places], points, strict=True):
        objects[name] = _body(random, point, places.get(name))
    if obstacles:
        fraction, ends = random.uniform(0.2, 0.8), (points[0], points[len(things)])
        point = ends[0] + fraction * (ends[1] - ends[0]) + random.uniform(-0.02, 0.02, 2)
        objects[obstacles[0]] = NamedObject(position=np.append(point, 0.0), size=_hindrance(random, ends[1] - ends[0]))
    delivered = _delivered(random, things, places)
    for errand in delivered:
        size = objects[errand.thing].size
        rest = objects[errand.place].position + np.array([0.0, 0.0, size[2] / 2])
        objects[errand.thing] = NamedObject(position=rest, size=size)
    table = _staged(random, dict(_shuffled(random, objects)), _errands(random, things, places), tuple(obstacles))
    return replace(table, delivered=delivered)


class _Names:
    """No name twice."""

    def __init__(self, random: Random) -> None:
        self._random, self._used = random, set()

    def new(self, nouns: Sequence[str]) -> str:
        while True:
            name = f"{self._random.choice(COLOURS)} {self._random.choice(nouns)}"
            if name not in self._used:
                self._used.add(name)
                return name


def _shuffled(random: Random, objects: dict[str, NamedObject]) -> list[tuple[str, NamedObject]]:
    pairs = list(objects.items())
    return [pairs[place] for place in random.permutation(len(pairs))]


def _points(random: Random, count: int, *, corridor: bool) -> Float64[np.ndarray, "n 2"]:
    """Apart from one another; with a corridor, so that something fits between the first and a later one."""
    while True:
        points = random.uniform(LOW, HIGH, (1, 2))
        for _ in range(ATTEMPTS):
            if len(points) == count:
                break
            point = random.uniform(LOW, HIGH)
            far = 0.2 if corridor else GAP
            near = np.linalg.norm(points - point, axis=1)
            if near[0] > far and near.min() > GAP:
                points = np.append(points, point[None], axis=0)
        if len(points) == count:
            return points


def _body(random: Random, point: Float64[np.ndarray, " 2"], relation: Relation | None) -> NamedObject:
    if relation == "in":
        side, height = random.uniform(0.08, 0.12), random.uniform(0.02, 0.04)
        return NamedObject(position=np.append(point, 0.0), size=np.array([side, side, height]))
    if relation == "on":
        side = random.uniform(0.05, 0.09)
        return NamedObject(position=np.append(point, 0.0), size=np.array([side, side, 0.001]))
    side, height = random.uniform(0.02, 0.04), random.uniform(0.02, 0.045)
    return NamedObject(position=np.append(point, height / 2), size=np.array([side, side, height]))


def _hindrance(random: Random, way: Float64[np.ndarray, " 2"]) -> Float64[np.ndarray, " 3"]:
    """A pillar, or a wall across the way."""
    if random.random() < 0.65:
        side = random.uniform(0.03, 0.08)
        return np.array([side, side, random.uniform(0.08, 0.24)])
    wide, thin = random.uniform(0.14, 0.28), random.uniform(0.02, 0.1)
    across = [thin, wide] if abs(way[0]) >= abs(way[1]) else [wide, thin]
    return np.array([*across, random.uniform(0.06, 0.12)])


def _delivered(random: Random, things: Sequence[str], places: Mapping[str, Relation]) -> tuple[Errand, ...]:
    """Other things than the first at other places than the first, one at each."""
    pairs = zip(things[1:], list(places.items())[1:], strict=False)
    return tuple(Errand(thing=thing, place=place, relation=relation)
                 for thing, (place, relation) in pairs if random.random() < 0.4)  # fmt: skip


def _errands(random: Random, things: Sequence[str], places: Mapping[str, Relation]) -> tuple[Errand, ...]:
    """The first is from the first thing to the first place."""
    first = next(iter(places))
    found = [Errand(thing=things[0], place=first, relation=places[first])]
    for _ in range(5):
        thing = str(random.choice(things))
        others = [name for name in things if name != thing]
        if others and random.random() < 0.25:
            beside: Relation = "left of" if random.random() < 0.5 else "right of"
            found.append(Errand(thing=thing, place=str(random.choice(others)), relation=beside))
        else:
            place = str(random.choice(list(places)))
            found.append(Errand(thing=thing, place=place, relation=places[place]))
    return tuple(dict.fromkeys(found))


def _staged(
    random: Random, objects: dict[str, NamedObject], errands: tuple[Errand, ...], obstacles: tuple[str, ...]
) -> Table:
    """The first errand's thing untouched, in the hand, over its place, or delivered."""
    errand, stage = errands[0], random.random()
    thing, shaken = objects[errand.thing], random.uniform(-0.006, 0.006, 3)
    closed = 0.25 <= stage < 0.75
    if stage < 0.25:
        last = f"reach {errand.thing}" if random.random() < 0.2 else ""  # after a grip that missed
        hand = np.append(random.uniform(-0.06, 0.06, 2), random.uniform(0.12, 0.16))
        if random.random() < 0.3:  # low, where it let go of something
            hand = np.append(random.uniform(LOW, HIGH), random.uniform(0.012, 0.05))
    elif stage < 0.55:
        last, hand = f"reach {errand.thing}", thing.position + shaken
    else:
        last = f"carry {errand.place}" if closed else f"release {errand.thing}"
        goal = objects[errand.place].position + destination(errand, objects)
        if not closed and errand.relation == "in":
            goal = objects[errand.place].position + np.array([0.0, 0.0, thing.size[2] / 2])
        objects = {**objects, errand.thing: NamedObject(position=goal + shaken, size=thing.size)}
        hand = goal + random.uniform(-0.006, 0.006, 3)
    hand = np.maximum(hand, [-np.inf, -np.inf, FLOOR])
    return Table(objects=objects, hand=hand, closed=closed, last=last, errands=errands,
                 delivered=(), obstacles=obstacles)  # fmt: skip
