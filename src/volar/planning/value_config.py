"""What the training of a learned value is: a dataclass that a recipe fills in and the command line may override.
Free of torch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from volar.core.errors import ConfigError

Target = Literal["mse", "hl_gauss", "ranking"]
Control = Literal["none", "random", "shuffled", "time"]


@dataclass(frozen=True, kw_only=True)
class ValueConfig:
    """A value head on the frozen features of one policy (V-VLAPS, arXiv 2601.00969); defaults are the published ones
    where there are any."""

    policy: Path | None = None
    """checkpoint or training run whose features are read and whose success is foretold; must be given"""
    target: Target = "mse"
    """discount ** (steps to success) by squared error or as HL-Gauss classes, or the order of branches of one state"""
    control: Control = "none"
    """instead of a value: weights never trained, targets shuffled, or the time in the episode as the only input"""
    members: int = 1
    """heads that differ in their first weights and in the order of examples; their spread is what UCB adds"""
    discount: float = 0.99
    """per control step"""
    stride: int = 4
    """every stride-th frame of the roll-outs is an example; frames of branches all are"""
    balance: bool = True
    """thin out examples of the lowest tenth of returns to as many as all others"""
    epochs: int = 100
    """passes over the examples"""
    batch: int = 64
    """examples per step; of a ranking, pairs"""
    learning_rate: float = 1e-4
    """of Adam; half a cosine down to a tenth"""
    validation: float = 0.1
    """fraction of the scenes held out"""
    seed: int = 0
    """of weights, order, balancing and shuffling"""

    def __post_init__(self) -> None:
        for name in ("members", "stride", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.validation < 1:
            raise ConfigError(f"validation must lie between 0 and 1, got {self.validation}.")
        if not 0 < self.discount <= 1 or not self.learning_rate > 0:
            raise ConfigError(
                f"discount must be in (0, 1] and learning_rate positive, got {self.discount} and {self.learning_rate}."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the place of the policy, whose hash a checkpoint keeps."""
        return {name: value for name, value in asdict(self).items() if name != "policy"}
