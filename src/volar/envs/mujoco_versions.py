"""MuJoCo versions with which a benchmark was found to be what it was, and what is known to go wrong with others."""

from collections.abc import Sequence
from dataclasses import dataclass

from volar.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Hazard:
    """What is known of one range of MuJoCo versions, both ends included. broken: what goes wrong; None where measured
    to be right."""

    first: tuple[int, ...]
    last: tuple[int, ...]
    broken: str | None


OURS = (Hazard(first=(3, 3, 0), last=(3, 3, 0), broken=None),)
"""Of worlds that are measured on one version only."""


def require_version(world: str, installed: str, hazards: Sequence[Hazard], *, remedy: str) -> None:
    """Raise ConfigError for a MuJoCo version with which `world` was not found right, naming those that were."""
    number = tuple(int(part) for part in installed.split(".")[:3] if part.isdigit())
    known = [hazard for hazard in hazards if hazard.first <= number <= hazard.last]
    if known and known[0].broken is None:
        return
    right = ", ".join(".".join(map(str, hazard.first)) for hazard in hazards if hazard.broken is None)
    why = known[0].broken if known else "nobody has measured that it is the same benchmark there"
    raise ConfigError(
        f"{world} does not run on MuJoCo {installed} here: {why}. Found right: {right}. Install one of them: {remedy}."
    )
