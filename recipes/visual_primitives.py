"""Marks on the picture of a virtual camera before every action: two minutes of training on tabletop-state/sort-*.

With pictures: `--policy.backbone compact --steps 2500 --learning-rate 1e-3`, and what docs/visual_primitives.md offers.
"""

from volar.policies.config import PolicyConfig
from volar.train.config import TrainConfig


def recipe() -> TrainConfig:
    return TrainConfig(
        policy=PolicyConfig(
            backbone="state",
            decoder="regression",
            horizon=8,
            normalise_action="min_max",
            normalise_proprioception="mean_std",
            backbone_options={"width": 64, "depth": 1},
            reasoner="visual",
        ),
        steps=3000,
        learning_rate=3e-3,
    )
