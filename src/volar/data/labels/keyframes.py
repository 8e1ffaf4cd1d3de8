"""The moments of an episode that matter: the gripper closes and opens, something is touched or let go, the hand halts.

After AVP (arXiv 2605.22183), whose keyframes are gripper transitions; pushing, wiping and pressing need the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float64
from scipy.signal import find_peaks

from volar.core.objects import NamedObject
from volar.data.labels.course import Course

Kind = Literal["closes", "opens", "touches", "leaves", "halts", "ends"]
MOVES: Final = 0.03  # metres a second; slower things lie still
MOVED: Final = 0.01  # metres; less is a nudge
APART: Final = 0.5  # seconds; halts and shoves nearer than that are one
DIP: Final = 0.3  # of the episode's median speed; by so much a halt, or a turn by more than a right angle, is slower
WENT_ON: Final = 0.03  # metres of the hand after the last event, to be one more
UNKNOWN_SIZE: Final = 0.04  # metres, of a thing that nobody measures
REACH: Final = 0.04  # metres from a thing's box to the hand that grasps it
BESIDE: Final = 0.03  # metres beyond the sizes of two things, seen from above, within which one is put at the other


@dataclass(frozen=True, kw_only=True)
class Keyframe:
    """The action of `frame` does it, so that it has happened from the next frame on. thing: what it is about, where
    objects are known."""

    frame: int
    kind: Kind
    thing: str | None = None


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Something goes from one place to another: the action of frame `begin` takes or touches it, that of frame `end`
    leaves it. held: between the fingers. source: what is taken, as it was then; destination: what it is put at, or it
    itself where it is put. thing, place: the names of the two, where objects are known."""

    begin: int
    end: int
    held: bool
    source: NamedObject
    destination: NamedObject
    thing: str | None = None
    place: str | None = None


@dataclass(frozen=True, kw_only=True)
class Story:
    """length: frames of the episode. keyframes: in order, at least one; the episode's end is one where the hand went on
    after the last other. transfers: in order."""

    length: int
    keyframes: tuple[Keyframe, ...]
    transfers: tuple[Transfer, ...]


def tell(course: Course) -> Story:
    """What happens in an episode."""
    last = len(course.hand) - 1
    grasps = _grasps(course)
    transfers = sorted([*grasps, *_shoves(course, grasps)], key=lambda transfer: transfer.begin)
    keyframes = []
    for transfer in transfers:
        begins, ends = ("closes", "opens") if transfer.held else ("touches", "leaves")
        keyframes.append(Keyframe(frame=transfer.begin, kind=begins, thing=transfer.thing))
        if transfer.end < last:
            keyframes.append(Keyframe(frame=transfer.end, kind=ends, thing=transfer.thing))
    if not keyframes:
        keyframes = [Keyframe(frame=frame, kind="halts") for frame in _halts(course)]
    keyframes = sorted(keyframes, key=lambda keyframe: keyframe.frame)
    if not keyframes or float(np.linalg.norm(course.hand[last] - course.hand[keyframes[-1].frame])) > WENT_ON:
        keyframes.append(Keyframe(frame=last, kind="ends"))
    return Story(length=len(course.hand), keyframes=tuple(keyframes), transfers=tuple(transfers))


def _grasps(course: Course) -> list[Transfer]:
    """From every closing of the gripper to its opening. A gripper that is closed from the start holds nothing."""
    last = len(course.closed) - 1
    changes = (np.flatnonzero(np.diff(course.closed.astype(np.int8))) + 1).tolist()
    if course.closed[0]:
        changes = changes[1:]
    found = []
    for place in range(0, len(changes), 2):
        begin, end = changes[place], changes[place + 1] if place + 1 < len(changes) else last
        thing = _grasped(course, begin, end) if course.objects else None
        found.append(_transfer(course, begin, end, thing, held=True))
    return found


def _transfer(course: Course, begin: int, end: int, thing: str | None, *, held: bool) -> Transfer:
    if thing is None:
        source, destination = (
            NamedObject(position=course.hand[frame], size=np.full(3, UNKNOWN_SIZE)) for frame in (begin, end)
        )
        return Transfer(begin=begin, end=end, held=held, source=source, destination=destination)
    source, settled = course.objects[begin][thing], _settled(course, thing, end)
    place = _put_at(settled, thing) if thing in settled else None
    destination = settled.get(place or thing, source)
    return Transfer(
        begin=begin, end=end, held=held, source=source, destination=destination, thing=thing, place=place
    )  # fmt: skip


def _settled(course: Course, thing: str, end: int) -> Mapping[str, NamedObject]:
    """What stands where once the thing has come to rest, or where it was last seen on the way there."""
    rest = min(end + course.frames(APART), len(course.hand) - 1)
    return next((now for now in course.objects[rest : end - 1 : -1] if thing in now), course.objects[rest])


def _grasped(course: Course, begin: int, end: int) -> str | None:
    """Of the things in reach the one that the hand carries farthest, or else the nearest."""
    hand = course.hand[begin]
    gaps = {name: _gap(thing, hand) for name, thing in course.objects[begin].items()}
    near = {name: gap for name, gap in gaps.items() if gap < REACH}
    if not near:
        return None
    carried = {name: _way(course, name, begin, end) for name in near}
    farthest = max(carried, key=lambda name: carried[name])
    return farthest if carried[farthest] > MOVED else min(near, key=lambda name: near[name])


def _gap(thing: NamedObject, point: Float64[np.ndarray, " 3"]) -> float:
    """Metres from the box to the point."""
    return float(np.linalg.norm(np.maximum(np.abs(point - thing.position) - thing.size / 2, 0.0)))


def _way(course: Course, name: str, begin: int, end: int) -> float:
    """Metres between where the thing is at two frames; 0 where it is not known at both."""
    first, second = course.objects[begin].get(name), course.objects[end].get(name)
    return 0.0 if first is None or second is None else float(np.linalg.norm(second.position - first.position))


def _put_at(settled: Mapping[str, NamedObject], thing: str) -> str | None:
    """The nearest of the things that, seen from above, it lies in, on or beside."""
    moved = settled[thing]
    gaps = {}
    for name, other in settled.items():
        away = float(np.linalg.norm((other.position - moved.position)[:2]))
        if name != thing and away < float(max(other.size[:2]) + max(moved.size[:2])) / 2 + BESIDE:
            gaps[name] = away
    return min(gaps, key=lambda name: gaps[name]) if gaps else None


def _shoves(course: Course, grasps: Sequence[Transfer]) -> list[Transfer]:
    """Whatever moves without being held, with the hand at it, from its first to its last motion."""
    if not (course.objects and course.exact):
        return []
    stride, apart = course.frames(0.15), course.frames(APART)
    free = np.ones(len(course.hand), np.bool_)
    for transfer in grasps:  # nothing is between the fingers, nor has just been, nor will be within the stride
        free[max(transfer.begin - stride, 0) : transfer.end + apart + 1] = False
    found = []
    for name in dict.fromkeys(name for now in course.objects for name in now):
        path = np.array([now[name].position if name in now else (np.nan,) * 3 for now in course.objects])
        ahead = np.minimum(np.arange(len(path)) + stride, len(path) - 1)
        moving = free & (np.linalg.norm(path[ahead] - path, axis=1) > MOVES * stride / course.fps)
        for begin, end in _stretches(moving, apart):
            way = float(np.linalg.norm(path[end] - path[begin]))
            seen = [frame for frame in range(begin, end + 1) if name in course.objects[frame]]
            gap = min(_gap(course.objects[frame][name], course.hand[frame]) for frame in seen)
            if way > MOVED and gap < REACH:
                found.append(_transfer(course, begin, end, name, held=False))
    return found


def _stretches(flags: Bool[np.ndarray, " t"], apart: int) -> list[tuple[int, int]]:
    """First and last frame of every run, runs nearer than `apart` frames being one."""
    at = np.flatnonzero(flags)
    if not len(at):
        return []
    cuts = np.flatnonzero(np.diff(at) > apart)
    starts, stops = at[np.concatenate([[0], cuts + 1])], at[np.concatenate([cuts, [len(at) - 1]])]
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _halts(course: Course) -> list[int]:
    """Where the hand halts or turns, neither at the beginning nor at the end."""
    stride, last = course.frames(0.15), len(course.hand) - 1
    if last <= 2 * stride:
        return []
    speed = np.linalg.norm(course.hand[2 * stride :] - course.hand[: -2 * stride], axis=1)
    dips, _ = find_peaks(-speed, prominence=DIP * float(np.median(speed)), distance=course.frames(APART))
    return (dips + stride).tolist()
