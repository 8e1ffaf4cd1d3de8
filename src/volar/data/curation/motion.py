"""Scores of how a demonstration moves, from its own trajectory alone: smooth, straight, busy. Training-free.

Blind to what the motion achieves. Speeds are those of standardised proprioception, so that metres and radians add up;
name the robot's own dimensions where proprioception also holds objects.
"""

import math

import numpy as np
from jaxtyping import Float64

from volar.data.curation.scores import Evidence, Scores, from_frames, standardised, states, task_groups
from volar.data.dataset import Dataset

CUTOFF_HZ = 10.0  # human and robot arms move below; the published value
AMPLITUDE = 0.05  # of the spectrum's peak: what lies below is noise
PADDING = 4  # powers of two
IDLE = 0.05  # of the task's 95 % speed


def smoothness(dataset: Dataset, evidence: Evidence) -> Scores:
    """Spectral arc length of the speed profile: 0 and below, -1.6 for a minimum-jerk reach, lower for every stop and
    correction. Balasubramanian et al. 2015 (doi 10.1186/s12984-015-0090-9); as a filter: RINSE, arXiv 2604.23000.
    Longer episodes with more phases score lower: compare within a task."""
    speeds = _speeds(dataset, evidence)
    return Scores(episodes=np.array([spectral_arc_length(speed, dataset.fps) for speed in speeds]))


def spectral_arc_length(speed: Float64[np.ndarray, " t"], rate_hz: float) -> float:
    """Minus the length of the normalised magnitude spectrum of a speed profile up to the last frequency (at most
    10 Hz) that reaches 5 % of its peak. A profile without motion, or of one sample, has nothing rough: -1."""
    if len(speed) < 2 or not speed.any():
        return -1.0
    size = 2 ** (math.ceil(math.log2(len(speed))) + PADDING)
    magnitude = np.abs(np.fft.rfft(speed, size))
    frequency = np.fft.rfftfreq(size, 1 / rate_hz)
    magnitude = magnitude / magnitude.max()
    last = int(np.flatnonzero((frequency <= CUTOFF_HZ) & (magnitude >= AMPLITUDE))[-1])
    if last == 0:
        return -1.0
    steps = np.diff(frequency[: last + 1]) / frequency[last]
    return -float(np.hypot(steps, np.diff(magnitude[: last + 1])).sum())


def low_jerk(dataset: Dataset, evidence: Evidence) -> Scores:
    """Minus log(1 + dimensionless jerk), duration^3 / peak speed^2 times the integral of squared acceleration of the
    speed (LDLJ-V of Balasubramanian et al. 2015). 0 for uniform motion. Grows with duration more than `smoothness`."""
    return Scores(episodes=np.array([-_log_jerk(speed) for speed in _speeds(dataset, evidence)]))


def path_efficiency(dataset: Dataset, evidence: Evidence) -> Scores:
    """Straight distance from start to end over the length of the path, 0 to 1; 0 for an episode that never moves.
    Unfair to tasks that have to go there and back."""
    place = standardised(states(dataset, evidence.dimensions))
    found = []
    for episode in dataset.episodes:
        path = place[episode.start : episode.stop]
        length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
        found.append(float(np.linalg.norm(path[-1] - path[0])) / length if length else 0.0)
    return Scores(episodes=np.array(found))


def busyness(dataset: Dataset, evidence: Evidence) -> Scores:
    """The share of frames that move: faster than 5 % of the speed that only 5 % of the task's frames exceed."""
    speeds, groups = _speeds(dataset, evidence), task_groups(dataset)
    frames = np.empty(dataset.num_frames)
    for group in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == group).tolist()
        fast = float(np.quantile(np.concatenate([speeds[member] for member in members]), 0.95))
        for member in members:
            episode = dataset.episodes[member]
            frames[episode.start : episode.stop] = speeds[member] > IDLE * fast
    return from_frames(dataset, frames)


def _speeds(dataset: Dataset, evidence: Evidence) -> list[Float64[np.ndarray, " t"]]:
    """Per episode, standardised units per second; the last frame repeats the speed before it."""
    place = standardised(states(dataset, evidence.dimensions))
    speeds = []
    for episode in dataset.episodes:
        speed = np.linalg.norm(np.diff(place[episode.start : episode.stop], axis=0), axis=1) * dataset.fps
        speeds.append(np.append(speed, speed[-1:]) if len(speed) else np.zeros(episode.length))
    return speeds


def _log_jerk(speed: Float64[np.ndarray, " t"]) -> float:
    """Time is counted in frames: the rate cancels."""
    peak = float(speed.max())
    if len(speed) < 3 or peak == 0:
        return 0.0
    return math.log1p(len(speed) ** 3 / peak**2 * float((np.diff(speed, 2) ** 2).sum()))
