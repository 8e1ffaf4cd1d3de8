"""Which parts make a policy: plain choices, free of torch, so that recipes and the command line load fast."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from volar.core.errors import ConfigError
from volar.data.normalize import Mode


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Which parts make the policy. The two normalisations have no default: they must be chosen, not guessed."""

    backbone: str
    decoder: str
    horizon: int
    normalise_action: Mode
    normalise_proprioception: Mode
    backbone_options: Mapping[str, Any] = field(default_factory=dict)
    decoder_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ConfigError(f"horizon must be at least 1 action, got {self.horizon}.")
