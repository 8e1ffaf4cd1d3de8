"""Demonstrations that occur twice: frames copied bit for bit, and courses that are one but for noise."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Float64, UInt64

from volar.data.curation.duplicates import near_duplicates
from volar.data.findings import Finding, note, warning
from volar.data.inspection.subject import Subject

FEWEST: Final = 3  # different frames of an episode that can be told to be a copy
SHARED: Final = 0.5  # of an episode's frames that occur in another one, bit for bit
NEAR: Final = 0.02  # standard deviations between two courses that count as one
MOST_COMPARED: Final = 3000  # episodes of a task; time grows with the square
SIMILAR_LENGTH: Final = 1.2  # times longer


def repeated_episodes(subject: Subject) -> Iterator[Finding]:
    """Frames that occur bit for bit in an earlier episode: whole copies and parts of one."""
    vectors = [vector for vector in (subject.state, subject.action) if vector is not None and vector.varies.any()]
    if not vectors:
        return
    names = _names(np.concatenate([vector.values for vector in vectors], axis=1))
    owner: dict[int, int] = {}
    for episode, own in enumerate(subject.episodes(names)):
        distinct = np.unique(own)
        earlier = [owner[name] for name in distinct.tolist() if name in owner]
        for name in distinct.tolist():
            owner.setdefault(name, episode)
        original, shared = Counter(earlier).most_common(1)[0] if earlier else (0, 0)
        if len(distinct) < FEWEST or shared < SHARED * len(distinct):
            continue
        yield warning(
            "repeated-episode",
            f"{shared} of {len(distinct)} different frames occur bit for bit in episode {original}",
            "Remove one of the two; copies distort weights and leak into validation.", episode=episode,
        )  # fmt: skip


def _names(rows: Float64[np.ndarray, "n d"]) -> UInt64[np.ndarray, " n"]:
    """A number for each row, equal for equal rows. Others hardly ever share it, and half of them would have to."""
    odd = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return ((rows + 0.0).view(np.uint64) * odd).sum(1, dtype=np.uint64)  # + 0.0: minus zero is zero


def near_copies(subject: Subject) -> Iterator[Finding]:
    """Re-encoded or noisy copies within a task, which share no frame bit for bit."""
    motion, episodes = subject.motion, subject.dataset.episodes
    if motion is None or subject.state is None or not motion.varies.any():
        return
    largest = max(Counter(episode.tasks for episode in episodes).values())
    if largest > MOST_COMPARED:
        yield note(
            "not-compared",
            f"near-duplicates were not looked for: a task has {largest} episodes, every pair would be compared",
            "Check parts of the data set (`volar data split`).",
        )
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
