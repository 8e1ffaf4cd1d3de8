"""Demonstrations that occur twice: frames copied bit for bit, and courses that are one but for noise."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from volar.data.curation.duplicates import near_duplicates
from volar.data.findings import Finding, warning
from volar.data.inspection.subject import Subject

FEWEST: Final = 3  # different frames of an episode that can be told to be a copy
SHARED: Final = 0.5  # of an episode's frames that occur in another one, bit for bit
NEAR: Final = 0.02  # standard deviations between two courses that count as one
SIMILAR_LENGTH: Final = 1.2  # times longer


def repeated_episodes(subject: Subject) -> Iterator[Finding]:
    """Frames that occur bit for bit in an earlier episode: whole copies and parts of one."""
    vectors = [vector for vector in (subject.state, subject.action) if vector is not None and vector.varies.any()]
    if not vectors:
        return
    rows = np.ascontiguousarray(np.concatenate([vector.values for vector in vectors], axis=1))
    _, names = np.unique(rows.view([("", rows.dtype)] * rows.shape[1])[:, 0], return_inverse=True)
    owner: dict[int, int] = {}
    for episode, own in enumerate(subject.episodes(names)):
        distinct = np.unique(own)
        earlier = [owner[name] for name in distinct.tolist() if name in owner]
        for name in distinct.tolist():
            owner.setdefault(name, episode)
        if len(distinct) < FEWEST or len(earlier) < SHARED * len(distinct):
            continue
        original = int(np.bincount(earlier).argmax())
        yield warning(
            "repeated-episode",
            f"{earlier.count(original)} of {len(distinct)} different frames occur bit for bit in episode {original}",
            "Remove one of the two; copies distort weights and leak into validation.", episode=episode,
        )  # fmt: skip


def near_copies(subject: Subject) -> Iterator[Finding]:
    """Re-encoded or noisy copies within a task, which share no frame bit for bit."""
    motion, episodes = subject.motion, subject.dataset.episodes
    if motion is None or subject.state is None or not motion.varies.any():
        return
    for pair in near_duplicates(subject.dataset, within=NEAR):
        one, other = episodes[pair.first], episodes[pair.second]
        shorter, longer = sorted((one.length, other.length))
        if shorter < FEWEST or longer > SIMILAR_LENGTH * shorter or _identical(subject, pair.first, pair.second):
            continue
        yield warning(
            "near-duplicate",
            f"the course is that of episode {pair.first} but for {pair.distance:.2g} standard deviations",
            "Look at both; remove one if it is a copy.",
            feature=motion.feature, episode=pair.second,
        )  # fmt: skip


def _identical(subject: Subject, first: int, second: int) -> bool:
    assert subject.motion is not None
    one, other = (subject.dataset.episodes[episode] for episode in (first, second))
    values = subject.motion.values
    return np.array_equal(values[one.start : one.stop], values[other.start : other.stop])
