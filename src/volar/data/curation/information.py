"""Mutual information between states and actions, and what every episode adds to it (DemInf, arXiv 2502.08623).

High where the data cover much and actions follow from states. Not a learned bound: nearest neighbours (KSG) on
principal components, where the paper trains two small autoencoders.
"""

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from volar.data.curation.scores import (
    Evidence,
    Scores,
    chunks,
    frame_episodes,
    from_frames,
    standardised,
    states,
    task_groups,
    watched,
)
from volar.data.dataset import Dataset

EULER = 0.5772156649015329
NEIGHBOURS = (5, 6, 7)  # the paper's, as are the next five
STATE_SIZE, ACTION_SIZE = 12, 6
BATCH, REPEATS = 1024, 4
CLIP = (1.0, 99.0)  # percentiles
HORIZON = 4  # actions


def deminf(dataset: Dataset, evidence: Evidence) -> Scores:
    """Mean over an episode's frames of their share in I(state; next 4 actions), in standard deviations of the task.

    Good demonstrations that go another way than most lower it, and a cue that tells the action raises it, spurious or
    not. All proprioception counts, whatever `evidence.dimensions` says: the state must tell what is to be done.
    """
    seen, done = states(dataset), chunks(dataset, HORIZON)
    of_frame = task_groups(dataset)[frame_episodes(dataset)]
    frames = np.zeros(dataset.num_frames)
    for group in watched(range(int(of_frame.max()) + 1), evidence, "mutual information"):
        rows = np.flatnonzero(of_frame == group)
        generator = np.random.default_rng([evidence.seed, group])
        state = principal(standardised(seen[rows]), STATE_SIZE)
        action = principal(standardised(done[rows]), ACTION_SIZE)
        frames[rows] = _score(state, action, generator)
    return from_frames(dataset, frames)


def ksg(first: Float64[np.ndarray, "n p"], second: Float64[np.ndarray, "n q"], *, neighbours: int = 5) -> float:
    """I(first; second) in nats by Kraskov, Stoegbauer & Grassberger 2004 (cond-mat/0305641), first estimator.
    Needs more than `neighbours` rows; takes memory for n x n distances."""
    return float(_digamma(np.array([len(first)]))[0] + contributions(first, second, (neighbours,)).mean())


def contributions(
    first: Float64[np.ndarray, "n p"], second: Float64[np.ndarray, "n q"], neighbours: tuple[int, ...] = NEIGHBOURS
) -> Float64[np.ndarray, " n"]:
    """Every row's psi(k) - psi(n_first) - psi(n_second), averaged over the `neighbours` k; with psi(n) added, its mean
    is the mutual information. n_: rows (itself included) nearer than the k-th neighbour in the joint space, Euclidean
    in each space and the larger of both together.

    A row with k exact copies has radius zero; then the copies are counted instead (Gao et al. 2017, 1709.06212), or
    every pause of a robot would seem infinitely informative.
    """
    near, far = _distances(first), _distances(second)
    joint = np.maximum(near, far)
    order = np.sort(joint, axis=1)
    total = np.zeros(len(first))
    for k in neighbours:
        radius = order[:, min(k, len(first) - 1)]
        tied = radius == 0
        inside, outside = radius[:, None], tied[:, None]
        count = np.where(tied, (joint == 0).sum(1) - 1, min(k, len(first) - 1))
        own = ((near < inside) | (outside & (near == 0))).sum(1)
        other = ((far < inside) | (outside & (far == 0))).sum(1)
        total += _digamma(np.maximum(count, 1)) - _digamma(own) - _digamma(other)
    return total / len(neighbours)


def principal(values: Float64[np.ndarray, "n d"], size: int) -> Float64[np.ndarray, "n z"]:
    """The `size` principal components with most variance, unscaled: a linear autoencoder."""
    if values.shape[1] <= size:
        return values
    _, directions = np.linalg.eigh(values.T @ values)
    return values @ directions[:, ::-1][:, :size]


def _score(state: np.ndarray, action: np.ndarray, generator: np.random.Generator) -> Float64[np.ndarray, " n"]:
    """Averaged over shuffled batches of at most 1024 rows; clipped to the 1 % and 99 % percentile, standardised."""
    count = len(state)
    total = np.zeros(count)
    for _ in range(REPEATS if count > BATCH else 1):
        for rows in np.array_split(generator.permutation(count), -(-count // BATCH)):
            total[rows] += contributions(state[rows], action[rows])
    total = np.clip(total, *np.percentile(total, CLIP))
    spread = float(total.std())
    return (total - total.mean()) / spread if spread else np.zeros(count)


def _distances(values: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n n"]:
    """Exact zeros for equal rows, which a difference of squares would not give."""
    squares = np.zeros((len(values), len(values)))
    for column in values.T:
        squares += (column[:, None] - column) ** 2
    return np.sqrt(squares)


def _digamma(counts: Int64[np.ndarray, " n"] | Shaped[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """psi of whole numbers from 1 on: harmonic numbers less Euler's constant."""
    largest = int(counts.max())
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, largest + 1))])
    return harmonic[counts - 1] - EULER
