"""A random small backbone in the toy world: seconds, for tests and for learning how things fit together."""

from volar.policies.config import PolicyConfig
from volar.train.config import TrainConfig


def recipe() -> TrainConfig:
    return TrainConfig(
        policy=PolicyConfig(
            backbone="tiny",
            decoder="regression",
            horizon=4,
            normalise_action="min_max",
            normalise_proprioception="mean_std",
        ),
        steps=300,
        batch=32,
        warmup=20,
    )
