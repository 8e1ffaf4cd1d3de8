"""The small policy of the curation study: state backbone, regression, seconds of training."""

from volar.policies.config import PolicyConfig
from volar.train.config import TrainConfig


def recipe() -> TrainConfig:
    return TrainConfig(
        policy=PolicyConfig(
            backbone="state", decoder="regression", horizon=8, normalise_action="min_max",
            normalise_proprioception="mean_std", backbone_options={"width": 64, "depth": 1},
        ),
        steps=500, batch=64, learning_rate=2e-3, validate_every=500, checkpoint_every=500, log_every=100,
    )  # fmt: skip
