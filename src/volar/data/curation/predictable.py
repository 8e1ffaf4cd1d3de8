"""How well a demonstration's actions are foretold by the others: cross-fitted nearest-neighbour regression.

The cheap stand-in for `volar.train.curation.held_out`, which trains a policy per fold. No episode helps to foretell
itself. Punishes whatever the majority does not do, good minority ways included.
"""

import numpy as np
from jaxtyping import Float64

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

HORIZON = 8  # actions
NEIGHBOURS = 8
LARGEST = 20_000  # frames of a task that are looked up; more are thinned evenly
BLOCK = 512  # frames at once


def predictability(dataset: Dataset, evidence: Evidence) -> Scores:
    """Minus the mean absolute error, in standard deviations, of the next 8 actions against the mean of those at the 8
    most similar states of other episodes of the task. A task's only episode scores 0."""
    seen, done = states(dataset), chunks(dataset, HORIZON)
    groups, episodes = task_groups(dataset), frame_episodes(dataset)
    frames = np.zeros(dataset.num_frames)
    for group in range(int(groups.max()) + 1):
        rows = np.flatnonzero(groups[episodes] == group)
        if (groups == group).sum() < 2:
            continue
        state, action = standardised(seen[rows]), standardised(done[rows])
        known = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), LARGEST)).round().astype(int))
        blocks = range(0, len(rows), BLOCK)
        for start in watched(blocks, evidence, "nearest neighbours"):
            part = slice(start, start + BLOCK)
            foreign = episodes[rows[part]][:, None] != episodes[rows[known]]
            nearest = _nearest(state[part], state[known], foreign)
            foretold = action[known][nearest].mean(1)
            frames[rows[part]] = -np.abs(foretold - action[part]).sum(1) / max(action.shape[1], 1)
    return from_frames(dataset, frames)


def _nearest(query: Float64[np.ndarray, "q d"], known: Float64[np.ndarray, "n d"], allowed: np.ndarray) -> np.ndarray:
    distance = (query**2).sum(1)[:, None] + (known**2).sum(1) - 2 * query @ known.T
    distance[~allowed] = np.inf
    count = min(NEIGHBOURS, int(allowed.sum(1).min()))
    return np.argpartition(distance, max(count - 1, 0), axis=1)[:, : max(count, 1)]
