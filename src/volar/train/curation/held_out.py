"""Held-out loss: how badly a policy that never saw a demonstration foretells its actions. Cross-fitted over k folds.

The policy is the one that will be trained anyway, so the score sees what it sees, pictures included, and costs k
trainings. Punishes whatever the majority does not do, good minority ways included.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Int64

from volar.core.checkpoint import load_checkpoint
from volar.core.errors import ConfigError
from volar.core.robot import RobotSpec
from volar.data.curation.scores import Evidence, Scores, frame_episodes, from_frames, task_groups
from volar.data.dataset import Dataset
from volar.data.windows import Windows
from volar.policies.config import PolicyConfig
from volar.policies.vla import Policy, latest_checkpoint
from volar.train.config import TrainConfig
from volar.train.demonstrations import to_batch
from volar.train.loop import train

FOLDS = 3
BATCH = 64


def held_out(dataset: Dataset, evidence: Evidence) -> Scores:
    """Minus the loss of every window under a policy trained as `evidence.policy` was, on the other folds' episodes.
    Every task is spread evenly over three folds. ConfigError without a policy of ours, or for too few episodes."""
    config = _recipe(required_policy(evidence))
    folds = assign_folds(task_groups(dataset), seed=evidence.seed)
    frames = np.zeros(dataset.num_frames)
    of_frame = frame_episodes(dataset)
    with tempfile.TemporaryDirectory() as folder:
        for fold in range(FOLDS):
            kept = Path(folder) / f"{fold}.json"
            kept.write_text(str(np.flatnonzero(folds != fold).tolist()))
            run = train(
                replace(config, episodes=str(kept), validation=0.0), Path(dataset.root), Path(folder) / str(fold),
                progress=evidence.progress,
            )  # fmt: skip
            rows = np.flatnonzero(folds[of_frame] == fold)
            frames[rows] = -window_losses(Policy.load(run), dataset, np.flatnonzero(folds == fold), seed=evidence.seed)
    return from_frames(dataset, frames)


def required_policy(evidence: Evidence) -> Path:
    if evidence.policy is None:
        raise ConfigError("This score needs a policy that was trained on the demonstrations: --policy RUN.")
    return latest_checkpoint(evidence.policy)


def assign_folds(groups: Int64[np.ndarray, " e"], *, seed: int) -> Int64[np.ndarray, " e"]:
    if len(groups) < FOLDS:
        raise ConfigError(f"{FOLDS} folds need as many episodes, got {len(groups)}.")
    generator = np.random.default_rng(seed)
    order = np.concatenate([generator.permutation(np.flatnonzero(groups == group)) for group in np.unique(groups)])
    folds = np.empty(len(groups), dtype=np.int64)
    folds[order] = np.arange(len(groups)) % FOLDS
    return folds


def window_losses(
    policy: Policy, dataset: Dataset, episodes: Int64[np.ndarray, " m"], *, seed: int
) -> Float64[np.ndarray, " n"]:
    """The policy's loss of every window of these episodes, in the order of their frames. Noise in it is a function of
    the seed and the batch."""
    windows = every_window(policy, dataset, episodes)
    losses = []
    with torch.inference_mode():
        for start in range(0, len(windows), BATCH):
            rows = list(range(start, min(start + BATCH, len(windows))))
            batch = to_batch(policy, windows.__getitems__(rows), torch.device("cpu"))
            losses.append(policy.loss(batch, generator=torch.Generator().manual_seed(seed + start)).double().numpy())
    return np.concatenate(losses)


def every_window(policy: Policy, dataset: Dataset, episodes: Int64[np.ndarray, " m"], *, stride: int = 1) -> Windows:
    """What the policy would be trained on, pictures read as they are needed."""
    cameras = [camera.name for camera in policy.robot.cameras]
    return Windows(
        dataset, horizon=policy.config.horizon, cameras=cameras, episodes=episodes.tolist(), stride=stride,
        images=bool(cameras), features=None, thoughts=policy.reasoner is not None,
    )  # fmt: skip


def _recipe(checkpoint: Path) -> TrainConfig:
    facts = load_checkpoint(checkpoint).config["facts"]
    if "train" not in facts:
        raise ConfigError(f"{checkpoint} does not tell how it was trained; take a run of `volar train`.")
    told = dict(facts["train"])
    policy, robot = PolicyConfig(**told.pop("policy")), told.pop("robot")
    config = TrainConfig(policy=policy, robot=RobotSpec.from_json(robot) if robot else None, **told)
    return replace(config, validate_every=config.steps, checkpoint_every=config.steps, track="none")
