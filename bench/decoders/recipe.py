"""The study's training as a recipe for `volar compare`, which gives every decoder the same training FLOPs.

volar compare regression=bench/decoders/recipe.py flow=bench/decoders/recipe.py --set flow.policy.decoder=flow ...
"""

from variants import recipe as study_recipe

from volar.train.config import TrainConfig


def recipe() -> TrainConfig:
    return study_recipe("regression", 0, 1500)
