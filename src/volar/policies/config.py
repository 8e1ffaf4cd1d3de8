"""Which parts make a policy: plain choices, free of torch, so that recipes and the command line load fast."""

from dataclasses import dataclass, field

from volar.core.errors import ConfigError
from volar.data.normalize import Mode

Option = int | float | bool | str


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Which parts make the policy. The two normalisations have no default: they must be chosen, not guessed."""

    backbone: str
    """a name from `volar list backbones`, or package.module:Class"""
    decoder: str
    """a name from `volar list decoders`, or package.module:Class"""
    horizon: int
    """actions per chunk"""
    normalise_action: Mode
    """how actions are brought to the range that the decoder learns"""
    normalise_proprioception: Mode
    """the same for proprioception"""
    tokenizer: str | None = None
    """for decoders that speak in tokens: a name from `volar list tokenizers`, or package.module:Class"""
    reasoner: str | None = None
    """what it tells itself before it acts: a name from `volar list reasoners`, or package.module:Class"""
    backbone_options: dict[str, Option] = field(default_factory=dict)
    """choices of the backbone's Config that differ from its defaults"""
    decoder_options: dict[str, Option] = field(default_factory=dict)
    """choices of the decoder's Config that differ from its defaults"""
    tokenizer_options: dict[str, Option] = field(default_factory=dict)
    """choices of the tokenizer's Config that differ from its defaults"""
    reasoner_options: dict[str, Option] = field(default_factory=dict)
    """choices of the reasoner's Config that differ from its defaults"""

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ConfigError(f"horizon must be at least 1 action, got {self.horizon}.")
