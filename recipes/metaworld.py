"""One language-conditioned policy for several Meta-World tasks, on the compact backbone with cached features."""

from volar.policies.config import PolicyConfig
from volar.train.config import TrainConfig


def recipe() -> TrainConfig:
    return TrainConfig(
        policy=PolicyConfig(
            backbone="compact",
            decoder="regression",
            horizon=8,
            normalise_action="min_max",
            normalise_proprioception="mean_std",
        ),
        steps=2500,
        batch=64,
        learning_rate=1e-3,
        stride=2,
    )
