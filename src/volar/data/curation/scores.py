"""What a score of demonstrations is, and what all of them look at. Higher is better; scores compare within a task only.

A score is a function of a data set and `Evidence`. Which of several good ones to believe no score knows: see
docs/results/curation.md for what each one finds and what it misses.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float64, Int64
from rich.console import Console
from rich.progress import track

from volar.core.errors import ConfigError, unknown_name
from volar.data import layout
from volar.data.dataset import Dataset

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a score may use beside the demonstrations; most use little of it.

    dimensions: names of the numbers of proprioception that are the robot's motion; all that vary when empty.
    policy: a trained policy's checkpoint or run. rollouts: episodes that such a policy ran, successes and failures,
    as `volar data rollouts` records them. progress: show a bar on stderr.
    """

    seed: int = 0
    dimensions: tuple[str, ...] = ()
    policy: Path | None = None
    rollouts: Dataset | None = None
    progress: bool = False


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One finite number per episode, and per frame where the score looks at frames. note: what to know about it."""

    episodes: Float64[np.ndarray, " e"]
    frames: Float64[np.ndarray, " n"] | None = None
    note: str = ""


Score = Callable[[Dataset, Evidence], Scores]


def from_frames(dataset: Dataset, frames: Float64[np.ndarray, " n"], note: str = "") -> Scores:
    """An episode's score is the mean over its frames."""
    means = [float(frames[episode.start : episode.stop].mean()) for episode in dataset.episodes]
    return Scores(episodes=np.array(means), frames=frames, note=note)


def chance(dataset: Dataset, evidence: Evidence) -> Scores:
    """Uniform noise: the control that every score has to beat."""
    return Scores(episodes=np.random.default_rng(evidence.seed).uniform(size=len(dataset.episodes)))


def brevity(dataset: Dataset, evidence: Evidence) -> Scores:
    """Minus the number of frames: a control. What it finds, other scores may find for the same trivial reason
    (Bedi 2026, arXiv 2606.10229)."""
    return Scores(episodes=-np.array([float(episode.length) for episode in dataset.episodes]))


def task_groups(dataset: Dataset) -> Int64[np.ndarray, " e"]:
    """Which episodes are of the same task: a number per episode, by their instructions."""
    numbers: dict[tuple[str, ...], int] = {}
    return np.array([numbers.setdefault(episode.tasks, len(numbers)) for episode in dataset.episodes], dtype=np.int64)


def frame_episodes(dataset: Dataset) -> Int64[np.ndarray, " n"]:
    return np.repeat(np.arange(len(dataset.episodes)), [episode.length for episode in dataset.episodes])


def standardised(values: np.ndarray) -> Float64[np.ndarray, "n d"]:
    """Zero mean and unit variance per column; columns that never vary are left out, all of them if need be."""
    exact = np.asarray(values, dtype=np.float64)
    varying = exact.max(0) > exact.min(0)
    exact = exact[:, varying]
    return (exact - exact.mean(0)) / exact.std(0)


def states(dataset: Dataset, dimensions: tuple[str, ...] = ()) -> Float64[np.ndarray, "n d"]:
    """Proprioception of every frame, as recorded. dimensions: only these. ConfigError where there is none."""
    if layout.STATE not in dataset.arrays:
        raise ConfigError(f"{dataset.root} has no {layout.STATE!r}, which this score looks at; see `volar data info`.")
    values = np.asarray(dataset.arrays[layout.STATE], dtype=np.float64)
    if not dimensions:
        return values
    names = _state_names(dataset)
    for name in dimensions:
        if name not in names:
            raise unknown_name(f"number of {layout.STATE} of {dataset.root}", name, names)
    return values[:, [names.index(name) for name in dimensions]]


def _state_names(dataset: Dataset) -> list[str]:
    if dataset.spec is not None:
        return list(dataset.spec.proprioception)
    names = dataset.features[layout.STATE].get("names")
    return [str(name) for name in names] if isinstance(names, list) else []


def chunks(dataset: Dataset, horizon: int) -> Float64[np.ndarray, "n d"]:
    """The next `horizon` actions of every frame side by side; an episode's last action is repeated past its end."""
    if layout.ACTION not in dataset.arrays:
        raise ConfigError(f"{dataset.root} has no {layout.ACTION!r}; its features are {sorted(dataset.features)}.")
    actions = np.asarray(dataset.arrays[layout.ACTION], dtype=np.float64)
    stops = np.array([episode.stop for episode in dataset.episodes])[frame_episodes(dataset)]
    ahead = np.minimum(np.arange(len(actions))[:, None] + np.arange(horizon), stops[:, None] - 1)
    return actions[ahead].reshape(len(actions), -1)


def watched(items: Iterable[Item], evidence: Evidence, words: str, total: int | None = None) -> Iterable[Item]:
    """The items, with a bar on stderr where one was asked for."""
    return track(items, words, total=total, console=Console(stderr=True), disable=not evidence.progress)
