"""What commands mean on the workbench: when one is fulfilled, what is still to go, and how a scripted expert does it.

Functions of (command, scene), so that families may chain or vary them.
"""

import numpy as np
from jaxtyping import Float64

from volar.envs.tabletop import scene
from volar.envs.tabletop.grammar import Command
from volar.envs.tabletop.motions import Action, around, carry, draw, press, push
from volar.envs.tabletop.task import Scene, Ways, horizontal
from volar.envs.tabletop.workbench import GOALS, HALF_HEIGHT, RADIUS, ROWS, SPOTS, WIDTH, free_spots, shape_of

ON_REGION = 0.02  # metres from its centre
OPENED, CLOSED = scene.DRAWER_TRAVEL - 0.01, 0.01  # metres that the drawer is out
PRESSED = 0.008  # metres that the button is down
# Metres to the side, and before or behind: less than the gap between things at the start, so that none begins there.
BESIDE, ACROSS = (0.028, 0.065), 0.025
_WAY = {"left": -1.0, "right": 1.0}


def target(command: Command, now: Scene) -> int | None:
    """Row of the thing that the command names."""
    return None if command.thing is None else ROWS[command.thing]


def left(command: Command, now: Scene) -> float:
    """Metres still to go: of the thing, or of the drawer or the button."""
    if command.thing is None:
        drawer, button = now.joints
        match command.verb:
            case "open":
                return max(0.0, float(scene.DRAWER_TRAVEL - drawer))
            case "close":
                return max(0.0, float(drawer))
            case _:
                return max(0.0, float(scene.BUTTON_TRAVEL + button))
    return horizontal(now.objects[ROWS[command.thing]], _place(command, now))


def done(command: Command, now: Scene) -> bool:
    if command.thing is None:
        drawer, button = now.joints
        match command.verb:
            case "open":
                return bool(drawer > OPENED)
            case "close":
                return bool(drawer < CLOSED)
            case _:
                return bool(button < -PRESSED)
    thing, shape = now.objects[ROWS[command.thing]], shape_of(command.thing)
    resting = bool(thing[2] < HALF_HEIGHT[shape] + 0.006)
    if command.verb == "to":
        return resting and left(command, now) < ON_REGION
    if command.verb in _WAY:
        ahead, across = (thing - now.objects[ROWS[command.place]])[:2]
        return resting and bool(BESIDE[0] < _WAY[command.verb] * ahead < BESIDE[1] and abs(across) < ACROSS)
    low = bool(thing[2] < HALF_HEIGHT[shape] + 0.012)
    if command.place == "drawer":
        across, inwards = (thing - np.append(_tab(now), np.zeros(4)))[:2]
        return low and bool(abs(across) < scene.DRAWER_HALF and 0 < inwards < 2 * scene.DRAWER_HALF)
    return low and left(command, now) < scene.BOWL_RADIUS - 0.01


def expert(command: Command, now: Scene, ways: Ways) -> Action:
    match command.verb:
        case "open" | "close":
            return draw(now, _tab(now), outwards=command.verb == "open")
        case "press":
            return press(now, now.goals[GOALS["button"]], scene.BUTTON_TOP - scene.BUTTON_TRAVEL + 0.005)
    assert command.thing is not None
    thing, shape = now.objects[ROWS[command.thing]], shape_of(command.thing)
    place = _place(command, now)
    if command.verb == "to":
        first = around(thing[:2], place[:2], _in_the_way(command, now))
        return push(now, thing, np.append(first, 0.0), RADIUS[shape])
    if command.verb in _WAY:
        tolerance, low = 0.01, HALF_HEIGHT[shape] + 0.002
    else:
        tolerance, low = 0.012, 0.055
    return carry(
        now, thing, place, grip=0.0, lift=0.09, tolerance=tolerance, lower=low, release=True, width=WIDTH[shape]
    )


def _in_the_way(command: Command, now: Scene) -> Float64[np.ndarray, "n 3"]:
    """The other things and the bowls, and how far a pushed thing keeps from their centres."""
    others = np.delete(now.objects[:, :2], ROWS[str(command.thing)], axis=0)
    places = np.concatenate([others, now.goals[:2, :2]])
    return np.column_stack([places, [0.033] * len(others) + [scene.BOWL_RADIUS + 0.02] * 2])


def _tab(now: Scene) -> Float64[np.ndarray, " 3"]:
    """Where the drawer is taken hold of."""
    return now.goals[GOALS["drawer"]] - np.array([0.0, now.joints[0] + scene.TAB, 0.0])


def _place(command: Command, now: Scene) -> Float64[np.ndarray, " 3"]:
    """Where the thing should go: a centre, the middle of the drawer's opening, or the free spot beside the other thing
    that is nearest to it."""
    if command.verb in _WAY:
        return _spot(command, now)
    goal = now.goals[GOALS[command.place]]
    return goal - np.array([0.0, now.joints[0] / 2, 0.0]) if command.place == "drawer" else goal


def _spot(command: Command, now: Scene) -> Float64[np.ndarray, " 3"]:
    beside, way = now.objects[ROWS[command.place]], _WAY[command.verb]
    others = np.delete(now.objects[:, :2], ROWS[str(command.thing)], axis=0)
    free = free_spots(beside[:2], way, others, now.goals[:4, :2])
    return np.append(beside[:2] + SPOTS[int(np.argmax(free))] * (way, 1.0), 0.0)
