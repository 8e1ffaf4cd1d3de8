"""Measures an episode while it runs, for `volar.core.evidence` to explain."""

from collections.abc import Mapping, Sequence

import numpy as np

from volar.core.evidence import Motion, Track

STILL = 1e-3  # of the way that the robot went in the episode


class Tracker:
    """Takes an environment's measures before every step, and once at the end."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def note(self, measures: Mapping[str, float]) -> None:
        for name, value in measures.items():
            self._values.setdefault(name, []).append(float(value))

    def tracks(self) -> dict[str, Track]:
        """Rounded to what explains, so that records stay short."""
        return {
            name: Track(
                first=round(values[0], 4),
                last=round(values[-1], 4),
                low=round(min(values), 4),
                high=round(max(values), 4),
                low_step=int(np.argmin(values)),
                high_step=int(np.argmax(values)),
            )
            for name, values in self._values.items()
        }


def motion_of(proprioception: Sequence[np.ndarray], executed: Sequence[np.ndarray]) -> Motion:
    """proprioception, executed: one row per step."""
    if len(executed) < 2:
        return Motion(still=0, reversals=0.0)
    places, actions = np.asarray(proprioception, dtype=float), np.asarray(executed, dtype=float)
    span = np.ptp(places, axis=0)
    moved = (np.abs(np.diff(places, axis=0)) > STILL * np.maximum(span, 1e-9)).any(axis=1)
    still = len(moved) if not moved.any() else int(np.argmax(moved[::-1]))
    late = actions[len(actions) // 2 :]
    against = (late[1:] * late[:-1]).sum(axis=1) < 0
    return Motion(still=still, reversals=round(float(against.mean()), 3) if len(against) else 0.0)
