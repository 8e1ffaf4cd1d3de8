"""A policy that says its sub-task and its next move before it acts; on labelled demonstrations of `tabletop-state`."""

from volar.policies.config import PolicyConfig
from volar.reasoning.ecot_variants import ecot
from volar.train.config import TrainConfig


def recipe() -> TrainConfig:
    return TrainConfig(
        policy=PolicyConfig(
            backbone="state",
            backbone_options={"width": 64, "depth": 1},
            decoder="regression",
            reasoner="ecot",
            reasoner_options=ecot(("subtask", "move")),
            horizon=8,
            normalise_action="min_max",
            normalise_proprioception="mean_std",
        ),
        steps=3000,
        learning_rate=3e-3,
    )
