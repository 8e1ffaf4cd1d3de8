"""Pictures that do not decode, stand still while the robot moves, show nothing, or belong to another camera."""

from collections.abc import Iterator
from itertools import combinations
from typing import Final

import numpy as np
from jaxtyping import Bool

from volar.data.findings import Finding, error, warning
from volar.data.inspection.looks import EpisodeLook
from volar.data.inspection.outliers import turned
from volar.data.inspection.subject import Subject

SAME: Final = 1e-4  # share of changed pixels up to which two pictures count as one
STILL_PICTURES: Final = 3  # in succession, while the robot moves
BLANK: Final = 2.0  # levels of standard deviation over a picture that shows nothing
APART: Final = 8.0  # levels by which two cameras must differ to be told apart


def unreadable_pictures(subject: Subject) -> Iterator[Finding]:
    for camera, looks in subject.looks.items():
        for episode, reason in looks.broken.items():
            yield error(
                "unreadable-pictures", reason, "Copy the file again, or leave the episode out.",
                feature=subject.dataset.require_camera(camera), episode=episode,
            )  # fmt: skip


def frozen_camera(subject: Subject) -> Iterator[Finding]:
    """Pictures in succession are the same although the state moves as much as it usually does."""
    motion = subject.motion
    if motion is None or not motion.varies.any():
        return
    moving = motion.values[:, motion.varies]
    travelled = np.concatenate([[0.0], np.abs(np.diff(moving / moving.std(0), axis=0)).mean(1)])
    typical = float(np.median(travelled[1:])) if len(travelled) > 1 else 0.0
    for camera, looks in subject.looks.items():
        for episode, seen in looks.episodes.items():
            start = subject.dataset.episodes[episode].start
            path = np.cumsum(travelled[start : start + seen.frames[-1] + 1])[seen.frames]
            moved = np.diff(path) > 0.5 * typical * np.diff(seen.frames)
            for first, last in _runs((seen.changed[1:] <= SAME) & moved):
                if last - first >= STILL_PICTURES:
                    yield _frozen(subject.dataset.require_camera(camera), episode, seen, first, last)


def _frozen(key: str, episode: int, seen: EpisodeLook, first: int, last: int) -> Finding:
    return warning(
        "frozen-camera",
        f"{last - first + 1} pictures in succession are the same although the robot moves",
        "Look at the episode; leave it out, or train without this camera.",
        feature=key, episode=episode,
        start=int(seen.frames[first]), stop=int(seen.frames[last]) + 1,
    )  # fmt: skip


def _runs(flags: Bool[np.ndarray, " t"]) -> list[tuple[int, int]]:
    """Start and stop of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def blank_pictures(subject: Subject) -> Iterator[Finding]:
    for camera, looks in subject.looks.items():
        for episode, seen in looks.episodes.items():
            blank = np.flatnonzero(seen.contrast < BLANK)
            if len(blank):
                level = seen.thumbnails[blank].mean()
                yield warning(
                    "blank-pictures",
                    f"{len(blank)} of {len(seen.frames)} pictures looked at show one flat colour (level {level:.0f})",
                    "Look at the episode; the camera was off, covered or overexposed.",
                    feature=subject.dataset.require_camera(camera), episode=episode,
                    start=int(seen.frames[blank[0]]), stop=int(seen.frames[blank[-1]]) + 1,
                )  # fmt: skip


def swapped_cameras(subject: Subject) -> Iterator[Finding]:
    """Episodes in which what two cameras show is exchanged, against most other episodes."""
    for one, other in combinations(subject.looks, 2):
        ours, theirs = subject.looks[one].episodes, subject.looks[other].episodes
        episodes = [episode for episode in ours if episode in theirs]
        if len(episodes) < 3:
            continue
        means = [(ours[e].thumbnails.mean(0) - theirs[e].thumbnails.mean(0)).ravel() for e in episodes]
        differences = np.stack(means).astype(np.float64)
        if np.median(np.sqrt((differences**2).mean(1))) < APART:
            continue
        for position in np.flatnonzero(turned(differences)):
            yield warning(
                "swapped-cameras",
                f"{one!r} shows what {other!r} shows in most episodes, and the other way round",
                f"Exchange the pictures of {one!r} and {other!r} in this episode, or leave it out.",
                feature=subject.dataset.require_camera(one), episode=episodes[position],
            )  # fmt: skip
