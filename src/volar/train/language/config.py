"""How a small language model is tuned. Free of torch."""

from dataclasses import dataclass

from volar.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Low-rank additions to the last layers of SmolLM2."""

    steps: int = 500
    """gradient steps"""
    tables: int = 2
    """in one step, each with all questions about it"""
    rank: int = 16
    """of the additions"""
    layers: int = 20
    """the last ones of 30, which get additions"""
    learning_rate: float = 1e-3
    """highest rate; linear warm-up, then half a cosine down to a twentieth"""
    warmup: int = 20
    """steps of warm-up"""
    clip: float = 1.0
    """largest norm of the gradient"""
    seed: int = 0
    """of lessons and first values"""
    start: str | None = None
    """folder of a tuned model to set out from"""
    half: bool = True
    """compute in bfloat16: three times as fast on processors that have it"""

    def __post_init__(self) -> None:
        if min(self.steps, self.tables, self.rank, self.layers) < 1 or self.learning_rate <= 0 or self.warmup < 0:
            raise ConfigError(
                f"steps, tables, rank and layers must be at least 1, warmup at least 0 and the learning rate above 0; "
                f"got {self}."
            )
