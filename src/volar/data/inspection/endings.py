"""Episodes that stop before they are finished, or are much shorter or longer than others of their task."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from volar.data.findings import Finding, note, warning
from volar.data.inspection.outliers import deviations
from volar.data.inspection.subject import Subject

TOO_SHORT: Final = 3  # frames that make no demonstration
COMPARED: Final = 6  # episodes of a task from which a length or an ending can stand out
ODD: Final = 6.0  # robust standard deviations of log length
AT_REST, IN_FLIGHT = 0.3, 1.0  # of the usual speed: where most episodes end, and where one that was cut does


def odd_lengths(subject: Subject) -> Iterator[Finding]:
    by_task: dict[tuple[str, ...], list[int]] = {}
    for episode in subject.dataset.episodes:
        by_task.setdefault(episode.tasks, []).append(episode.index)
        if episode.length < TOO_SHORT:
            yield warning(
                "too-short", f"{episode.length} frame{'s' * (episode.length > 1)}", "Leave the episode out.",
                episode=episode.index,
            )  # fmt: skip
    for members in by_task.values():
        if len(members) < COMPARED:
            continue
        lengths = np.array([subject.dataset.episodes[member].length for member in members])
        away = deviations(np.log(lengths), floor=0.1)
        for position in np.flatnonzero(np.abs(away) > ODD):
            short = away[position] < 0
            yield (warning if short else note)(
                "odd-length",
                f"{lengths[position]} frames; half of the {len(members)} episodes of its task have "
                f"{np.quantile(lengths, 0.25):.0f} to {np.quantile(lengths, 0.75):.0f}",
                "Look whether it was cut off." if short else "Look whether it holds pauses or failed attempts.",
                episode=members[position],
            )  # fmt: skip


def cut_endings(subject: Subject) -> Iterator[Finding]:
    """Episodes that stop in full motion although the others come to rest first."""
    motion = subject.motion
    if motion is None or not motion.varies.any() or len(subject.dataset.episodes) < COMPARED:
        return
    values = motion.values[:, motion.varies]
    values = values / values.std(0)
    speeds = [np.abs(np.diff(rows, axis=0)).mean(1) for rows in subject.episodes(values)]
    endings = np.array([speed[-3:].mean() if len(speed) else 0.0 for speed in speeds])
    usual = float(np.median(np.concatenate(speeds)))
    if usual == 0 or np.quantile(endings, 0.75) > AT_REST * usual:
        return
    for episode in np.flatnonzero(endings > IN_FLIGHT * usual):
        length = subject.dataset.episodes[episode].length
        yield warning(
            "cut-ending",
            f"ends at {endings[episode] / usual:.1f} times the usual speed, half of the episodes at "
            f"{np.median(endings) / usual:.2f} or less",
            "Look whether the end is missing; leave it out if so.",
            feature=motion.feature, episode=int(episode), start=max(length - 3, 0), stop=length,
        )  # fmt: skip
