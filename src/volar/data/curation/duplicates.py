"""Demonstrations that repeat another one: same instruction, same path whatever its pace. Exact copies included.

Paths are compared point by point after resampling to equal length in time; no dynamic time warping, which would cost
its square and mainly forgives pauses.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from volar.data.curation.scores import Evidence, Scores, standardised, states, task_groups
from volar.data.dataset import Dataset

POINTS = 32  # per path


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two episodes and how far apart they are: root mean square over path and dimensions, in standard deviations."""

    first: int
    second: int
    distance: float


def novelty(dataset: Dataset, evidence: Evidence) -> Scores:
    """The distance to the most similar *earlier* episode of the same task. The first of several copies keeps a high
    score, so dropping the lowest never drops all of them; a task's first episode gets the task's highest."""
    paths, groups = _paths(dataset, evidence.dimensions), task_groups(dataset)
    found = np.zeros(len(paths))
    for group in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == group)
        distance = _apart(paths[members])
        earlier = np.where(np.tri(len(members), k=-1, dtype=bool), distance, np.inf).min(1)
        earlier[0] = earlier[1:].max(initial=0.0)
        found[members] = earlier
    return Scores(episodes=found)


def near_duplicates(dataset: Dataset, *, within: float, dimensions: tuple[str, ...] = ()) -> tuple[Pair, ...]:
    """Every pair of episodes of the same task not further apart than `within`, the closest first."""
    paths, groups = _paths(dataset, dimensions), task_groups(dataset)
    pairs = []
    for group in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == group)
        distance = _apart(paths[members])
        for first, second in np.argwhere(np.triu(distance <= within, k=1)):
            pairs.append(
                Pair(first=int(members[first]), second=int(members[second]), distance=float(distance[first, second]))
            )
    return tuple(sorted(pairs, key=lambda pair: pair.distance))


def _paths(dataset: Dataset, dimensions: tuple[str, ...]) -> Float64[np.ndarray, "e d"]:
    place = standardised(states(dataset, dimensions))
    paths = []
    for episode in dataset.episodes:
        moments = np.linspace(0, episode.length - 1, POINTS)
        path = place[episode.start : episode.stop]
        columns = [np.interp(moments, np.arange(episode.length), column) for column in path.T]
        paths.append(np.concatenate([np.empty(0), *columns]))
    return np.stack(paths)


def _apart(paths: Float64[np.ndarray, "e d"]) -> Float64[np.ndarray, "e e"]:
    """One row at a time: memory stays linear, and copies are exactly 0 apart."""
    width = max(paths.shape[1], 1)
    return np.stack([np.sqrt(((paths - path) ** 2).sum(1) / width) for path in paths])
