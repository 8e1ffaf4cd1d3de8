"""Which demonstrations look like the policy's successes: Demo-SCORE (arXiv 2503.03707), on states instead of pictures.

A small network learns to tell frames of successful rollouts from those of failed ones; demonstrations are judged by it.
Sees what a strategy leads to, which no score of the demonstrations alone can. Needs rollouts of both outcomes.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float64
from torch import nn

from volar.core.errors import ConfigError
from volar.data.curation.scores import Evidence, Scores, chunks, frame_episodes, from_frames, states, watched
from volar.data.dataset import Dataset
from volar.statistics.auc import area_under_curve

FOLDS = 4
WIDTH = 32
STEPS, BATCH = 400, 256
DROPOUT = 0.3
DECAY = 0.1  # of AdamW


def outcomes(rollouts: Dataset) -> Bool[np.ndarray, " e"]:
    """Whether each rollout succeeded, as its recorder noted. ConfigError where it did not, or all ended alike."""
    noted = [episode.source.get("success") for episode in rollouts.episodes]
    if not all(type(value) is bool for value in noted):
        raise ConfigError(f"{rollouts.root} does not say which episodes succeeded; record it by `volar data rollouts`.")
    succeeded = np.array(noted, dtype=bool)
    if succeeded.all() or not succeeded.any():
        raise ConfigError(
            f"All {len(noted)} rollouts of {rollouts.root} {'succeeded' if succeeded.all() else 'failed'}; what leads "
            f"to success shows only in both kinds. Record more, of other checkpoints, or of harder scenes."
        )
    return succeeded


def required_rollouts(evidence: Evidence, dataset: Dataset) -> Dataset:
    """The evidence's rollouts, of the same robot as the demonstrations."""
    if evidence.rollouts is None:
        raise ConfigError(
            "This score needs rollouts of a policy: record some by `volar data rollouts`, --rollouts DIR."
        )
    ours, theirs = states(dataset).shape[1], states(evidence.rollouts).shape[1]
    if ours != theirs:
        raise ConfigError(f"{dataset.root} has {ours} numbers of proprioception, {evidence.rollouts.root} {theirs}.")
    return evidence.rollouts


def rollout_success(dataset: Dataset, evidence: Evidence) -> Scores:
    """Per frame (state and action) the probability of success according to four networks, each trained on three
    quarters of the rollouts. The note tells their area under the curve on the rollouts they have not seen: near 0.5
    nothing was learnt and the scores mean nothing."""
    rollouts = required_rollouts(evidence, dataset)
    succeeded = outcomes(rollouts)
    folds = _folds(succeeded, np.random.default_rng(evidence.seed))
    seen, of_frame = _features(rollouts), frame_episodes(rollouts)
    centre, scale = seen.mean(0), seen.std(0)
    scale[scale == 0] = np.inf  # what never varied in the rollouts cannot tell successes from failures
    seen, asked = (seen - centre) / scale, (_features(dataset) - centre) / scale
    probability, held = np.zeros(len(asked)), np.zeros(len(succeeded))
    for fold in watched(range(int(folds.max()) + 1), evidence, "success classifier"):
        train, test = folds[of_frame] != fold, folds[of_frame] == fold
        judge = _fit(_Examples.of(seen[train], of_frame[train], succeeded), seed=evidence.seed + fold)
        probability += _judge(judge, asked) / (folds.max() + 1)
        frames = _judge(judge, seen[test])
        for episode in np.flatnonzero(folds == fold):
            held[episode] = frames[of_frame[test] == episode].mean()
    area = area_under_curve(held[succeeded], held[~succeeded])
    note = f"held-out rollouts told apart with area {area:.2f} ({succeeded.sum()} successes of {len(succeeded)})"
    return from_frames(dataset, probability, note)


@dataclass(frozen=True)
class _Examples:
    """Frames, their labels, and how likely each is drawn: both outcomes alike, all episodes of an outcome alike."""

    frames: Float64[np.ndarray, "n d"]
    labels: Float64[np.ndarray, " n"]
    chance: Float64[np.ndarray, " n"]

    @classmethod
    def of(cls, frames: np.ndarray, of_frame: np.ndarray, succeeded: np.ndarray) -> "_Examples":
        lengths = np.bincount(of_frame, minlength=len(succeeded))
        chance = 1 / lengths[of_frame]
        for kind in (True, False):
            chance[succeeded[of_frame] == kind] /= chance[succeeded[of_frame] == kind].sum()
        return cls(frames, succeeded[of_frame].astype(np.float64), chance / chance.sum())


def _features(dataset: Dataset) -> Float64[np.ndarray, "n d"]:
    return np.concatenate([states(dataset), chunks(dataset, 1)], axis=1)


def _folds(succeeded: Bool[np.ndarray, " e"], generator: np.random.Generator) -> np.ndarray:
    """A fold per rollout; both outcomes spread evenly. ConfigError for fewer than two of an outcome."""
    fewest = int(min(succeeded.sum(), (~succeeded).sum()))
    if fewest < 2:
        raise ConfigError("At least two successful and two failed rollouts are needed, to learn from and to test on.")
    folds = np.empty(len(succeeded), dtype=np.int64)
    for kind in (True, False):
        members = generator.permutation(np.flatnonzero(succeeded == kind))
        folds[members] = np.arange(len(members)) % min(FOLDS, fewest)
    return folds


def _fit(examples: _Examples, *, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # weights and dropout
        judge = nn.Sequential(
            nn.Linear(examples.frames.shape[1], WIDTH), nn.ReLU(), nn.Dropout(DROPOUT),
            nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, 1),
        )  # fmt: skip
        optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3, weight_decay=DECAY)
        drawn = np.random.default_rng(seed).choice(len(examples.frames), (STEPS, BATCH), p=examples.chance)
        for rows in drawn:
            logits = judge(torch.from_numpy(examples.frames[rows]).float())[:, 0]
            loss = F.binary_cross_entropy_with_logits(logits, torch.from_numpy(examples.labels[rows]).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return judge.eval()


def _judge(judge: nn.Module, frames: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    with torch.inference_mode():
        return torch.sigmoid(judge(torch.from_numpy(frames).float())[:, 0]).double().numpy()
