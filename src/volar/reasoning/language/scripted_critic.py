"""A critic of rules that sees the simulator's truth, as a person beside the robot would; and its two controls, who say
as often that something is wrong, but not what.

It knows what is gripped, what is touched and where things came to lie, not what the task is.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float64

from volar.core.errors import ConfigError, unknown_name
from volar.core.objects import NamedObject, NamingWorld
from volar.core.robot import Env
from volar.reasoning.language.conversation import Conversation
from volar.reasoning.language.critic import (
    GRIPPED,
    PASSED,
    PHASES,
    Judge,
    Phase,
    Shift,
    Situation,
    Timing,
    Tried,
    Verdict,
    may_be_gripped,
)
from volar.reasoning.language.motion_plan import Foreseen

Advice = Literal["directions", "random", "bare"]
ADVICE: tuple[Advice, ...] = ("directions", "random", "bare")
HAND = 0.029  # metres: half of the hand's width and 5 mm
LOAD = 0.012  # metres that fingers, or a load, reach below the hand's point, and a load to its sides
SPARE = 0.01  # metres added to what a correction asks for
MOVED = 0.01  # metres: what went further was pushed
WORTH = 0.005  # metres: smaller shifts are not worth a word
BEGUN = 0.05  # share of the way before which a hand that touches something began there
ARRIVED = 0.025  # metres from the goal at which a motion was not held up
PLACED = 0.025  # metres from a place's centre, where its own size does not allow more


class ScriptedJudge(Judge):
    """Final. advice: "directions" says what to change; "random" says as much, drawn at random; "bare" says that it
    failed and no more. The verdicts are those of the rules in all three."""

    privileged = ("scripted critic: simulator state, before and after every motion",)

    def __init__(self, advice: str = "directions") -> None:
        if advice not in ADVICE:
            raise unknown_name("advice", advice, ADVICE)
        self._advice, self._seed, self._given = advice, 0, 0
        self._bound = ""  # where what is gripped was last carried to

    def bind(self, env: Env, seed: int) -> None:
        world = env.unwrapped
        if not isinstance(world, NamingWorld):
            raise ConfigError(
                f"{type(world).__name__} does not name its objects, so nobody can judge what became of them."
            )
        self._world, self._seed, self._given, self._bound = world, seed, 0, ""

    def preview(self, tried: Tried, path: Foreseen, now: Situation) -> Verdict:
        objects = self._world.named_objects()
        held = replace(now, objects=objects).gripped()
        for name, thing in objects.items():
            if name not in (tried.object, held) and (shift := _past(thing, path, loaded=held is not None)) is not None:
                return self._said(f"The hand would touch the {name}", shift)
        if tried.kind == "reach" and tried.closes and tried.object in objects:
            return self._aimed(tried.object, objects[tried.object], tried.goal, path)
        return PASSED

    def _aimed(self, name: str, thing: NamedObject, goal: Float64[np.ndarray, " 3"], path: Foreseen) -> Verdict:
        off = thing.position - goal
        if may_be_gripped(thing) and (float(np.hypot(off[0], off[1])) > GRIPPED or abs(off[2]) > thing.size[2] / 2):
            return self._said(f"The hand would close beside the {name}", *_shifts(off))
        shift = _above(thing, path)
        return PASSED if shift is None else self._said(f"The hand would push the {name} away", shift)

    def begin(self, tried: Tried, now: Situation) -> None:
        self._tried, self._before = tried, self._world.named_objects()
        self._known = tried.object in self._before  # a detector may have words of its own
        self._held, self._was_closed = replace(now, objects=self._before).gripped(), now.closed
        self._closing: float | None = None  # metres to the object when the fingers closed
        if self._known and self._held is not None and tried.object != self._held:
            self._bound = tried.object

    def watch(self, now: Situation, share: float) -> None:
        self._after = {**self._before, **self._world.named_objects()}
        self._now = replace(now, objects=self._after)
        if self._known and now.closed and not self._was_closed and self._closing is None:
            self._closing = float(np.linalg.norm(self._after[self._tried.object].position - now.hand))
        self._was_closed = now.closed

    def judge(self, talk: Conversation) -> Verdict:
        tried = self._tried
        if not self._known:
            return PASSED
        away = tried.goal - self._now.hand
        if float(np.linalg.norm(away)) > ARRIVED and not self._moved(tried.object):
            return self._said(f"The hand was held up {np.linalg.norm(away) * 100:.0f} cm before its goal",
                              Shift(axis=2, metres=0.05, phase="in the middle of"))  # fmt: skip
        if tried.kind == "push":
            return self._pushing()
        if self._held is not None:
            return self._releasing(self._held) if tried.closes is False else self._carrying(self._held)
        if tried.kind == "carry":
            return Verdict(success=False, problem="nothing is gripped", again=False)
        return self._gripping() if tried.closes and tried.kind == "reach" else PASSED

    def _moved(self, name: str) -> bool:
        return float(np.linalg.norm(self._after[name].position - self._before[name].position)) > MOVED

    def _gripping(self) -> Verdict:
        name = self._tried.object
        if self._now.gripped() == name or not may_be_gripped(self._before[name]):
            return PASSED
        early = self._closing is not None and self._closing > 2 * GRIPPED
        pushed = self._moved(name)
        # Where the hand was aimed at says more than where it ended, if it pushed the thing or closed too early.
        off = self._after[name].position - self._now.hand
        changes = _shifts(self._before[name].position - self._tried.goal if pushed or early else off)
        if early or self._closing is None:
            changes.append(Timing(event="close", later=early))
        if pushed and not changes:
            changes.append(Shift(axis=2, metres=0.05, phase="late in"))
        return self._said(f"The {name} {'was pushed away and ' if pushed else ''}is not gripped", *changes)

    def _pushing(self) -> Verdict:
        name = self._tried.object
        if self._moved(name):
            return PASSED
        return self._said(f"The {name} did not move", *_shifts(self._after[name].position - self._now.hand))

    def _carrying(self, held: str) -> Verdict:
        if self._now.gripped() != held:
            return Verdict(success=False, problem=f"the {held} slipped out of the fingers", again=False)
        place = self._after[self._tried.object]
        off = _beside(self._after[held], place) if self._tried.object != held else None
        if off is None:
            return PASSED
        return self._said(f"The {held} is not over the {self._tried.object}", *_shifts(off * (1.0, 1.0, 0.0)))

    def _releasing(self, held: str) -> Verdict:
        if self._now.gripped() == held:
            return self._said(f"The {held} was not let go", Timing(event="open", later=False))
        off = _beside(self._after[held], self._after[self._bound]) if self._bound in self._after else None
        if off is None:
            return PASSED
        side = ", ".join(Shift(axis=axis, metres=float(off[axis])).words().partition(" (")[0] for axis in range(2))
        return Verdict(success=False, again=False, problem=f"the {held} does not lie where it should, but {side}")

    def _said(self, problem: str, *changes: Shift | Timing) -> Verdict:
        self._given += 1
        if self._advice == "bare":
            return Verdict(success=False, problem="That is not right")
        if self._advice == "random":
            draw = np.random.default_rng([self._seed, self._given, 0x63726974])
            return Verdict(success=False, problem="That is not right", changes=tuple(_other(draw, c) for c in changes))
        return Verdict(success=False, problem=problem, changes=changes)


def _other(random: np.random.Generator, change: Shift | Timing) -> Shift | Timing:
    """Of the same size, elsewhere."""
    if isinstance(change, Timing):
        return Timing(event=("open", "close")[random.integers(2)], later=bool(random.integers(2)))
    metres = abs(change.metres) * float(random.choice((-1.0, 1.0)))
    return Shift(axis=int(random.integers(3)), metres=metres, phase=PHASES[random.integers(len(PHASES))])


def _shifts(off: Float64[np.ndarray, " 3"]) -> list[Shift | Timing]:
    """Go so much further at the end."""
    return [Shift(axis=axis, metres=float(off[axis])) for axis in range(3) if abs(off[axis]) > WORTH]


def _beside(thing: NamedObject, place: NamedObject) -> Float64[np.ndarray, " 3"] | None:
    """How far the thing must go to the place; None where it is there, or where the place is no larger than the thing,
    so that beside it may be meant."""
    off = place.position - thing.position
    room = float(min(place.size[:2]) / 2)
    if room <= float(max(thing.size[:2])) or float(np.hypot(off[0], off[1])) < max(room - LOAD, PLACED):
        return None
    return off


def _past(thing: NamedObject, path: Foreseen, *, loaded: bool) -> Shift | None:
    """The least change, across the way, that keeps the hand off the thing; None where it stays off by itself. The arm
    stands above the hand, so only going over counts as above."""
    wide = HAND + (LOAD if loaded else 0.0)
    low, high = thing.position - thing.size / 2 - wide, thing.position + thing.size / 2 + wide
    # What stands on the table may be named by its foot.
    top = float(max(thing.position[2], thing.size[2] / 2) + thing.size[2] / 2) + LOAD
    inside = (path.points[:, :2] > low[:2]).all(1) & (path.points[:, :2] < high[:2]).all(1) & (path.points[:, 2] < top)
    inside &= path.shares > BEGUN
    if not inside.any():
        return None
    points, way = path.points[inside], path.points[-1] - path.points[0]
    across = int(abs(way[0]) >= abs(way[1]))  # the horizontal axis that the way follows less
    choices = [
        Shift(axis=across, metres=float((high[across] - points[:, across]).max()) + SPARE),
        Shift(axis=across, metres=float((low[across] - points[:, across]).min()) - SPARE),
        Shift(axis=2, metres=float((top - points[:, 2]).max()) + SPARE),
    ]
    least = min(choices, key=lambda shift: abs(shift.metres))
    return Shift(axis=least.axis, metres=least.metres, phase=_phase(float(path.shares[inside].mean())))


def _above(thing: NamedObject, path: Foreseen) -> Shift | None:
    """How much higher a hand must come, so that it meets the thing from above; None where it does."""
    off = np.abs(path.points[:, :2] - thing.position[:2])
    top = float(thing.position[2] + thing.size[2] / 2) + LOAD
    beside = (off < thing.size[:2] / 2 + HAND).all(1) & (np.hypot(off[:, 0], off[:, 1]) > GRIPPED)
    low = beside & (path.points[:, 2] < top) & (path.shares > BEGUN)
    if not low.any():
        return None
    metres = top - float(path.points[low, 2].min()) + SPARE
    return Shift(axis=2, metres=metres, phase=_phase(float(path.shares[low].mean())))


def _phase(share: float) -> Phase:
    return PHASES[0] if share < 1 / 3 else PHASES[1] if share < 2 / 3 else PHASES[2]
