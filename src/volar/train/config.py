"""What a training run is: one dataclass that a recipe fills in and the command line may override. Free of torch."""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import tyro

from volar.core.errors import ConfigError
from volar.core.robot import RobotSpec
from volar.policies.config import PolicyConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Imitation learning of one policy from one data set, or from a mixture of several."""

    policy: PolicyConfig
    """the parts of the policy"""
    robot: Annotated[RobotSpec | None, tyro.conf.Suppress] = None
    """what the numbers mean, for a data set that does not say it itself"""
    start: str | None = None
    """a checkpoint or training run whose weights and vocabularies it sets out from; by default none"""
    steps: int = 2000
    """gradient steps"""
    batch: int = 64
    """windows per step (and per process)"""
    learning_rate: float = 1e-3
    """highest rate; linear warm-up, then half a cosine down to a hundredth"""
    warmup: int = 100
    """steps of warm-up"""
    weight_decay: float = 1e-4
    """of AdamW"""
    clip: float = 1.0
    """largest norm of the gradient"""
    ema: float = 0.995
    """decay of the averaged weights that are validated and saved; 0 for none"""
    seed: int = 0
    """of weights, order and noise"""
    stride: int = 1
    """every stride-th frame is an observation to train on"""
    cache_features: bool = True
    """compute the frozen part of the backbone once per frame and keep it beside the data"""
    validation: float = 0.1
    """fraction of each task's episodes held out"""
    episodes: str | None = None
    """file that lists the episodes to learn from, such as `volar data curate` writes; by default all"""
    episode_weights: bool = False
    """draw episodes in proportion to the weights in that file; by default every window counts alike"""
    mixture_weights: tuple[float, ...] | None = None
    """of several data sets, how often each is drawn, relative to one another; by default every window counts alike"""
    mixture_statistics: Literal["pooled", "own"] | None = None
    """of several data sets: normalise all by the statistics of all rows together, or each by its own"""
    mixture_pad: bool = False
    """data sets of different robots: continue narrower actions and proprioception with zeros; needs `own` statistics"""
    validate_every: int = 250
    """steps"""
    checkpoint_every: int = 500
    """steps"""
    log_every: int = 20
    """steps"""
    workers: int = 0
    """processes that read data"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is slower on processors without bf16 instructions"""
    track: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    """metrics also go to this tracker"""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "stride", "validate_every", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("validation", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {getattr(self, name)}.")
        if any(not 0 < weight < float("inf") for weight in self.mixture_weights or ()):
            raise ConfigError(f"mixture_weights must be positive numbers, got {list(self.mixture_weights or ())}.")
        if self.episode_weights and self.episodes is None:
            raise ConfigError("episode_weights needs the file that holds them: --episodes FILE of `volar data curate`.")
        if self.mixture_pad and self.mixture_statistics != "own":
            raise ConfigError(
                f"mixture_pad joins robots whose numbers mean different things, so each must be normalised by its own "
                f"statistics: mixture_statistics must be 'own', got {self.mixture_statistics!r}."
            )
        if self.mixture_pad and self.robot is not None:
            raise ConfigError(
                "With mixture_pad every data set keeps a robot of its own, which the recipe's `robot` cannot be; leave "
                "it out, and let each data set say its own: `volar data convert --robot FILE`."
            )
        if self.learning_rate <= 0 or self.clip <= 0:
            raise ConfigError(f"learning_rate and clip must be positive, got {self.learning_rate} and {self.clip}.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# These change nothing that is learned; of `episodes` the content counts, which is part of the data's hash.
FREE = ("log_every", "checkpoint_every", "workers", "track", "episodes")


# What a run was trained with that was begun before these could be chosen.
LATER = {"mixture_pad": False, "episode_weights": False, "start": None}
LATER_PARTS: dict[str, Any] = {"reasoner": None, "reasoner_options": {}}


def require_same(ours: TrainConfig, theirs: dict[str, Any], *, where: str) -> None:
    """A run is resumed with the settings it began with; ConfigError lists every difference."""
    mine, theirs = json.loads(json.dumps(ours.to_json())), LATER | theirs
    theirs["policy"] = LATER_PARTS | theirs["policy"]
    keys = sorted((mine.keys() | theirs.keys()) - set(FREE))
    different = [
        f"{key}: {theirs.get(key)} there, {mine.get(key)} now" for key in keys if theirs.get(key) != mine.get(key)
    ]
    if different:
        raise ConfigError(
            f"{where} is a run with other settings; choose another folder, or the same settings:\n  "
            + "\n  ".join(different)
        )
