"""Carries out a motion plan step by step: advances the primitive, fires the gripper, waits for arrival; in metres."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from volar.reasoning.motion_plan import MotionPlan, begin, commanded, followed, lasts, way_done


@dataclass(frozen=True, kw_only=True)
class Patience:
    """tolerance: metres from the commanded end that count as arrived. settle: seconds to get there. pause: seconds that
    fingers take."""

    tolerance: float = 0.008
    settle: float = 2.0
    pause: float = 0.5


class Follower:
    """One motion under way. closed: whether the fingers shall be closed."""

    def __init__(self, plan: MotionPlan, patience: Patience, *, closed: bool) -> None:
        self.plan, self.closed = plan, closed
        self._patience, self._moment, self._waiting = patience, begin(plan), 0.0
        self._due = sorted(plan.gripper, key=lambda act: act.s)
        self._late = 0.0  # seconds since the primitive's end

    @property
    def finished(self) -> bool:
        return self._late > 0 and not self._due and self._waiting <= 0

    @property
    def share(self) -> float:
        """Of the way to the goal that the undisturbed motion has gone, 0 to 1."""
        return way_done(self.plan, self._moment)

    def step(
        self, hand: Float64[np.ndarray, " 3"], goal: Float64[np.ndarray, " 3"], seconds: float
    ) -> Float64[np.ndarray, " 3"]:
        """Where the hand shall be `seconds` from now. hand: where it is."""
        if self._waiting > 0:
            self._waiting -= seconds
            return commanded(self.plan, self._moment)
        (self._moment,) = followed(self.plan, self._moment, goal, [seconds])
        there = commanded(self.plan, self._moment)
        beyond = (self._moment.s - lasts(self.plan)) * self.plan.duration
        arrived = beyond >= 0 and float(np.linalg.norm(there - hand)) < self._patience.tolerance
        self._late += (
            seconds
            if arrived or self._moment.s >= lasts(self.plan) + self._patience.settle / self.plan.duration
            else 0.0
        )
        while self._due and (self._due[0].s <= self._moment.s if self._due[0].s < 1 else self._late > 0):
            self.closed = self._due.pop(0).closes
            self._waiting = self._patience.pause
        return there
