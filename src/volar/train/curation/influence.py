"""What a demonstration did to the policy's success, by influence functions: CUPID (arXiv 2506.19121), TRAK's gradients.

Psi(demonstration) = sum over rollouts of (success - mean) * gradient of the loss of what the policy did there, times
the inverse Fisher matrix, times the mean gradient of the demonstration's loss. Gradients of all trained weights are
projected by a count sketch (Weinberger et al. 2009), which needs no projection matrix. First order, at the end of
training: it does not retrain.
"""

import numpy as np
import torch
from jaxtyping import Float64, Int64

from volar.core.errors import ConfigError
from volar.data.curation.scores import Evidence, Scores, from_frames, task_groups, watched
from volar.data.curation.success import outcomes, required_rollouts
from volar.data.dataset import Dataset
from volar.policies.vla import Policy
from volar.train.curation.held_out import every_window, required_policy
from volar.train.demonstrations import to_batch

SKETCH = 512  # numbers per projected gradient
STRIDE = 4  # every fourth frame of a demonstration is looked at
DAMPING = 0.1  # of the Fisher matrix's mean eigenvalue


def influence(dataset: Dataset, evidence: Evidence) -> Scores:
    """Positive where a demonstration pulls the policy towards what it did in successful rollouts, negative where
    towards what it did in failed ones; frames between the looked-at ones repeat the last. The rollouts should be those
    of `evidence.policy`."""
    policy, rollouts = Policy.load(required_policy(evidence)), required_rollouts(evidence, dataset)
    succeeded, groups = outcomes(rollouts).astype(np.float64), task_groups(rollouts)
    advantage = np.empty(len(succeeded))
    for group in np.unique(groups):
        advantage[groups == group] = succeeded[groups == group] - succeeded[groups == group].mean()
    sketch = _Sketch(policy, evidence.seed)
    toward = np.zeros(SKETCH)
    for episode in watched(range(len(succeeded)), evidence, "gradients of rollouts"):
        if advantage[episode]:
            executed = int(rollouts.episodes[episode].source.get("execute", 1))
            gradients = sketch.of(rollouts, np.array([episode]), stride=executed, executed=executed)
            toward += advantage[episode] * gradients.mean(0)
    every = range(len(dataset.episodes))
    parts = [
        sketch.of(dataset, np.array([episode]), stride=STRIDE)
        for episode in watched(every, evidence, "gradients of demonstrations")
    ]
    gradients = np.concatenate(parts)
    if not np.isfinite(gradients).all():
        raise ConfigError("A gradient is not finite; the policy or a demonstration is damaged.")
    fisher = gradients.T @ gradients / len(gradients)
    damping = DAMPING * float(np.trace(fisher)) / SKETCH or 1.0
    values = gradients @ np.linalg.solve(fisher + damping * np.eye(SKETCH), toward)
    lengths = [episode.length for episode in dataset.episodes]
    frames, start = [], 0
    for part, length in zip(parts, lengths, strict=True):
        frames.append(np.repeat(values[start : start + len(part)], STRIDE)[:length])
        start += len(part)
    return from_frames(dataset, np.concatenate(frames))


class _Sketch:
    """Gradients of single windows, each trained weight added with a random sign to one of `SKETCH` numbers."""

    def __init__(self, policy: Policy, seed: int) -> None:
        self.policy = policy
        self.weights = [weight for weight in policy.parameters() if weight.requires_grad]
        generator = torch.Generator().manual_seed(seed)
        count = sum(weight.numel() for weight in self.weights)
        self.place = torch.randint(SKETCH, (count,), generator=generator)
        self.sign = torch.randint(2, (count,), generator=generator).float() * 2 - 1
        self.seed = seed

    def of(
        self, dataset: Dataset, episodes: Int64[np.ndarray, " m"], *, stride: int, executed: int | None = None
    ) -> Float64[np.ndarray, "w s"]:
        """executed: only so many actions of a chunk count; None all."""
        windows = every_window(self.policy, dataset, episodes, stride=stride)
        found = np.empty((len(windows), SKETCH))
        for row in range(len(windows)):
            batch = to_batch(self.policy, windows[row], torch.device("cpu"))
            if executed is not None:
                assert batch.valid is not None
                batch.valid[:, executed:] = False
            loss = self.policy.loss(batch, generator=torch.Generator().manual_seed(self.seed))
            gradients = torch.autograd.grad(loss.sum(), self.weights, allow_unused=True)
            flat = [
                torch.zeros_like(weight).flatten() if gradient is None else gradient.flatten()
                for weight, gradient in zip(self.weights, gradients, strict=True)
            ]
            summed = torch.zeros(SKETCH).index_add_(0, self.place, torch.cat(flat) * self.sign)
            found[row] = summed.double().numpy()
        return found
