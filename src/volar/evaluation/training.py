"""What training and the phases of a run left beside its records: metrics.jsonl, compute.json, phases.json."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volar.core.errors import ConfigError

POINTS = 240  # a curve wider than this shows nothing more on a page


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric over training steps. Long ones are thinned: each point is the mean of a run of neighbours."""

    steps: tuple[float, ...]
    values: tuple[float, ...]


def read_curves(path: Path) -> dict[str, Curve]:
    """The numeric keys of a metrics file, one JSON object with a `step` per line; none when the file is missing.

    An unfinished last line and non-finite values are left out. Raises ConfigError for any other line.
    """
    if not path.exists():
        return {}
    points: dict[str, list[tuple[float, float]]] = {}
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            facts = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise ConfigError(f"{path}, line {number} is not JSON ({error}).") from error
        if not isinstance(facts, dict) or not _is_number(facts.get("step")):
            raise ConfigError(f"{path}, line {number}: expected an object with a numeric 'step', got {line[:80]!r}.")
        for name, value in facts.items():
            if name != "step" and _is_number(value):
                points.setdefault(name, []).append((facts["step"], value))
    return {name: _thin(np.array(values, dtype=float)) for name, values in points.items()}


def read_facts(path: Path) -> dict[str, Any]:
    """A JSON object of facts such as compute.json; empty when the file is missing."""
    if not path.exists():
        return {}
    try:
        facts = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}).") from error
    if not isinstance(facts, dict):
        raise ConfigError(f"{path}: expected an object with named values, got {type(facts).__name__}.")
    return facts


def read_phases(path: Path) -> dict[str, float]:
    """phase -> seconds, in the order of the file; empty when the file is missing."""
    phases = read_facts(path)
    for name, seconds in phases.items():
        if not _is_number(seconds) or seconds < 0:
            raise ConfigError(f"{path}: {name!r} must be a number of seconds, got {seconds!r}.")
    return {name: float(seconds) for name, seconds in phases.items()}


def share_of_phases(phases: Mapping[str, float]) -> dict[str, float]:
    """phase -> its part of the whole, in [0, 1]."""
    total = sum(phases.values())
    return {name: seconds / total if total else 0.0 for name, seconds in phases.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _thin(points: np.ndarray) -> Curve:
    groups = np.array_split(points, min(len(points), POINTS))
    return Curve(
        steps=tuple(float(group[:, 0].mean()) for group in groups),
        values=tuple(float(group[:, 1].mean()) for group in groups),
    )
