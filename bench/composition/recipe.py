"""What the study trains: one small policy per sensor, decoder and seed; `volar train recipe.py --seed N ...`."""

from volar.policies.config import PolicyConfig
from volar.train.config import TrainConfig


def recipe() -> TrainConfig:
    policy = PolicyConfig(
        backbone="state", decoder="flow", horizon=16, normalise_action="min_max", normalise_proprioception="mean_std"
    )
    return TrainConfig(policy=policy, steps=1500, batch=64, validate_every=1500, checkpoint_every=1500, log_every=100)
