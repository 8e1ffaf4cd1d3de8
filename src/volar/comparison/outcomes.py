"""Who did what on which scene, and on which scenes two arms may be compared. Draws no conclusion.

An arm is several members (policies trained with different seeds) that meet the same scenes; what a scene says about an
arm is the mean over its members, so that a scene counts once however many policies met it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from volar.comparison.result import LeftOut
from volar.core.robot import Episode
from volar.evaluation.records import EpisodeRecord
from volar.statistics.intervals import Interval, score_interval, score_z

DIGITS = 12  # thirds of members add up to one again


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """What a pair of arms did on the scenes that both met. values: task -> seed -> other minus reference, in
    [-1, 1]; every task of the comparison is a key. met: seeds that all members of both met in every task, scored or
    broken."""

    values: Mapping[str, Mapping[int, float]]
    met: frozenset[int]
    left_out: LeftOut

    @property
    def total(self) -> int:
        return sum(map(len, self.values.values()))

    def strata(self) -> list[Float[np.ndarray, " n"]]:
        """The values per task, in the order of the seeds."""
        return [np.array([found[seed] for seed in sorted(found)], dtype=float) for found in self.values.values()]

    def blocks(self, seeds: Collection[int] | None = None) -> Float[np.ndarray, "n tasks"]:
        """The values of each seed (of `seeds`, if given) that every task has, in the order of the seeds."""
        common = set.intersection(*(set(found) for found in self.values.values()))
        chosen = sorted(common if seeds is None else common.intersection(seeds))
        rows = [[found[seed] for found in self.values.values()] for seed in chosen]
        return np.round(np.array(rows, dtype=float).reshape(-1, len(self.values)), DIGITS)


class Outcomes:
    """The records of a comparison, found by member and task."""

    def __init__(self, records: Iterable[EpisodeRecord]) -> None:
        self._episodes: dict[tuple[str, str], dict[int, Episode]] = {}
        for record in records:
            member, task, seed = record.key
            self._episodes.setdefault((member, task), {})[seed] = record.episode

    def episodes(self, member: str, task: str) -> Mapping[int, Episode]:
        """seed -> episode."""
        return self._episodes.get((member, task), {})

    def scored(self, members: Sequence[str], task: str) -> Float[np.ndarray, " n"]:
        """Mean success over the members at each scene that at least one was scored on."""
        seeds: dict[int, list[bool]] = {}
        for member in members:
            for seed, episode in self.episodes(member, task).items():
                if episode.success is not None:
                    seeds.setdefault(seed, []).append(episode.success)
        return np.array([np.mean(seeds[seed]) for seed in sorted(seeds)], dtype=float)

    def grid(self, members: Sequence[str], tasks: Sequence[str]) -> Float[np.ndarray, "members tasks n"]:
        """1 for success, 0 for failure, NaN where a member was not scored; over all seeds that any member met."""
        seeds = sorted({seed for member in members for task in tasks for seed in self.episodes(member, task)})
        cells = np.full((len(members), len(tasks), len(seeds)), np.nan)
        for i, member in enumerate(members):
            for j, task in enumerate(tasks):
                for seed, episode in self.episodes(member, task).items():
                    if episode.success is not None:
                        cells[i, j, seeds.index(seed)] = float(episode.success)
        return cells

    def pair(self, reference: Sequence[str], other: Sequence[str], tasks: Sequence[str]) -> Scenes:
        """The scenes that all members of both arms met, were scored on, and found the same at the start."""
        values: dict[str, dict[int, float]] = {task: {} for task in tasks}
        missing = broken = different = 0
        met: list[set[int]] = []
        for task in tasks:
            found = [self.episodes(member, task) for member in (*reference, *other)]
            met.append(set.intersection(*map(set, found)))
            missing += len(set().union(*found) - met[-1])
            for seed in met[-1]:
                scene = [episodes[seed] for episodes in found]
                successes = [episode.success for episode in scene if episode.success is not None]
                if len(successes) < len(scene):
                    broken += 1
                elif len({episode.first_observation for episode in scene}) > 1:
                    different += 1
                else:
                    values[task][seed] = float(
                        np.mean(successes[len(reference) :]) - np.mean(successes[: len(reference)])
                    )
        left_out = LeftOut(missing=missing, broken=broken, different=different)
        return Scenes(values=values, met=frozenset.intersection(*map(frozenset, met)), left_out=left_out)


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What the score tests of volar.statistics.intervals take: counts[i, j] scenes of stratum i gave values[j], and
    the quantity of interest is the weighted sum of the strata's means."""

    counts: Float[np.ndarray, "strata k"]
    values: Float[np.ndarray, " k"]
    weights: Float[np.ndarray, " strata"]

    def interval(self, confidence: float = 0.95) -> Interval:
        return score_interval(self.counts, self.values, self.weights, confidence=confidence)

    def z(self, null: float = 0.0) -> float:
        return score_z(self.counts, self.values, self.weights, null=null)


def rate_draws(strata: Sequence[Float[np.ndarray, " _"]]) -> Draws | None:
    """For the mean over tasks of a success rate; None when a task has no value."""
    return _draws(strata, _equal(strata), lowest=0.0)


def paired_draws(strata: Sequence[Float[np.ndarray, " _"]]) -> Draws | None:
    """For the mean over tasks of paired differences. One task and one member in each arm: Tango's interval."""
    return _draws(strata, _equal(strata), lowest=-1.0)


def independent_draws(
    reference: Sequence[Float[np.ndarray, " _"]], other: Sequence[Float[np.ndarray, " _"]]
) -> Draws | None:
    """For other minus reference on different scenes. One task and one member in each arm: Mee's interval."""
    return _draws([*reference, *other], np.concatenate([-_equal(reference), _equal(other)]), lowest=0.0)


def _draws(
    strata: Sequence[Float[np.ndarray, " _"]], weights: Float[np.ndarray, " strata"], *, lowest: float
) -> Draws | None:
    """lowest: the smallest value that could have been seen; the largest is 1."""
    if not strata or not all(map(len, strata)):
        return None
    rounded = [np.round(values, DIGITS) for values in strata]
    lattice = np.unique(np.concatenate([*rounded, np.array([lowest, 1.0])]))
    counts = np.array([[(values == value).sum() for value in lattice] for values in rounded], dtype=float)
    return Draws(counts=counts, values=lattice, weights=weights)


def _equal(strata: Sequence[Float[np.ndarray, " _"]]) -> Float[np.ndarray, " strata"]:
    return np.full(len(strata), 1 / max(len(strata), 1))
