"""The Meta-World base policies of the planning study, as a recipe for `volar train`; `--seed` 0, 1 and 2.

volar collect metaworld-state/push metaworld-state/coffee-push metaworld-state/soccer metaworld-state/peg-insert-side \
    --episodes 60 --noise 0.1 --out DATA
volar train bench/planning/recipe.py --data DATA --out POLICIES/metaworld-0 --seed 0
"""

from volar.policies.config import PolicyConfig
from volar.train.config import TrainConfig

STEPS = 1500


def recipe() -> TrainConfig:
    return TrainConfig(
        policy=PolicyConfig(
            backbone="state", decoder="diffusion", horizon=16, normalise_action="min_max",
            normalise_proprioception="mean_std",
        ),
        steps=STEPS, batch=64, validate_every=STEPS, checkpoint_every=STEPS, log_every=100,
    )  # fmt: skip
