"""Grippers whose numbers mean the opposite, or are coded otherwise, in a few episodes."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64

from volar.data.findings import Finding, warning
from volar.data.inspection.outliers import turned
from volar.data.inspection.subject import Subject, Vector

PROFILE: Final = 24  # points of a gripper's course over an episode
CORRELATED: Final = 0.5  # of command and measured opening, from which the sign of it means something
COMPARED: Final = 4  # episodes of a task from which one can stand out
CONTINUOUS: Final = 10  # distinct values in an episode, from which a gripper is not switched but set


def gripper_dimensions(vector: Vector | None) -> list[int]:
    """By name: whatever is called gripper or jaw, and does change."""
    if vector is None:
        return []
    return [d for d, name in enumerate(vector.names) if re.search("grip|jaw", name, re.I) and vector.varies[d]]


def inverted_gripper(subject: Subject) -> Iterator[Finding]:
    action, state = subject.action, subject.state
    if action is None:
        return
    for d in gripper_dimensions(action):
        commands = list(subject.episodes(action.values[:, d]))
        inverted = _against_the_task(subject, commands)
        for measured in gripper_dimensions(state):
            assert state is not None
            inverted |= _against_the_measurement(commands, list(subject.episodes(state.values[:, measured])))
        for episode in np.flatnonzero(inverted):
            yield warning(
                "inverted-gripper",
                f"{action.names[d]!r} runs against what it does in most episodes "
                f"(here from {commands[episode][0]:.3g} to {commands[episode][-1]:.3g})",
                "Change its sign in this episode (1 - x for values from 0 to 1), or leave the episode out.",
                feature=action.feature, episode=int(episode),
            )  # fmt: skip


def _against_the_task(subject: Subject, commands: list[np.ndarray]) -> Bool[np.ndarray, " e"]:
    """The course over the episode is a mirror image of the task's others. Tasks are apart: some keep it shut."""
    lowest, highest = min(rows.min() for rows in commands), max(rows.max() for rows in commands)
    courses = np.stack([np.interp(np.linspace(0, len(rows) - 1, PROFILE), np.arange(len(rows)), rows)
                        for rows in commands])  # fmt: skip
    courses = courses - (lowest + highest) / 2
    found = np.zeros(len(commands), np.bool_)
    by_task: dict[tuple[str, ...], list[int]] = {}
    for episode in subject.dataset.episodes:
        by_task.setdefault(episode.tasks, []).append(episode.index)
    for episodes in by_task.values():
        if len(episodes) >= COMPARED:
            found[episodes] = turned(courses[episodes])
    return found


def _against_the_measurement(commands: list[np.ndarray], measured: list[np.ndarray]) -> Bool[np.ndarray, " e"]:
    """Command and measured opening are correlated with the other sign than in most episodes."""
    signs = np.array([_correlation(one, other) for one, other in zip(commands, measured, strict=True)])
    certain = np.abs(signs) >= CORRELATED
    if certain.sum() < COMPARED:
        return np.zeros(len(commands), np.bool_)
    usual = np.sign(np.median(signs[certain]))
    return certain & (np.sign(signs) == -usual)


def _correlation(one: Float64[np.ndarray, " t"], other: Float64[np.ndarray, " t"]) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def gripper_coding(subject: Subject) -> Iterator[Finding]:
    """Two values in some episodes and many in others, or another pair of values."""
    action = subject.action
    if action is None:
        return
    for d in gripper_dimensions(action):
        codings: dict[int, str] = {}
        for episode, values in enumerate(subject.episodes(action.values[:, d])):
            distinct = np.unique(values)
            if len(distinct) == 2:
                codings[episode] = f"switched between {distinct[0]:.3g} and {distinct[1]:.3g}"
            elif len(distinct) >= CONTINUOUS:
                codings[episode] = "continuous"
        (usual, most), *others = Counter(codings.values()).most_common() or [("", 0)]
        for coding, count in others:
            episodes = [episode for episode, own in codings.items() if own == coding]
            yield warning(
                "gripper-coding",
                f"{action.names[d]!r} is {coding} in {count} episodes ({episodes[0]}, ...), {usual} in {most}",
                "Bring all episodes to one coding.", feature=action.feature, episode=episodes[0],
            )  # fmt: skip
