"""What a policy that learned from several data sets knows of each, and the widths that all of them fill.

Narrower robots are continued with zeros in normalised units, as pi0 does for its largest one (arXiv 2410.24164).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import RobotSpec
from volar.data import layout
from volar.data.normalize import Normalizer, Statistics
from volar.policies.config import PolicyConfig


@dataclass(frozen=True, kw_only=True)
class Widths:
    """How many numbers the network reads and says: those of the widest robot."""

    action: int
    proprioception: int

    @classmethod
    def of(cls, robots: Iterable[RobotSpec]) -> "Widths":
        known = list(robots)
        return cls(
            action=max(robot.action.dim for robot in known),
            proprioception=max(len(robot.proprioception) for robot in known),
        )


class Normalizers:
    """Final. Both normalisers of one data set."""

    def __init__(self, config: PolicyConfig, statistics: Mapping[str, Statistics], widths: Widths) -> None:
        self.action = Normalizer(statistics[layout.ACTION], config.normalise_action, width=widths.action)
        self.proprioception = Normalizer(
            statistics[layout.STATE], config.normalise_proprioception, width=widths.proprioception
        )


def which_part(parts: Iterable[str]) -> ConfigError:
    return ConfigError(
        f"The policy learned from {', '.join(map(repr, parts))}, each normalised by its own statistics. Say whose "
        f"robot it is to act on: --part NAME of `volar evaluate` and `volar serve`, part= of `load_policy`."
    )


Part = TypeVar("Part")


def require_part(parts: Mapping[str, Part], part: str, folder: Path) -> Part:
    """Raises ConfigError for an unknown part, or any of a policy that has none."""
    if not parts:
        raise ConfigError(f"{folder} acts by the statistics of all its data; it has no parts, got part {part!r}.")
    if part not in parts:
        raise unknown_name(f"part of {folder}", part, parts)
    return parts[part]
