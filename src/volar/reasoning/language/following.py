"""Carries out a motion plan step by step: advances the primitive no faster than the hand follows, fires the gripper,
waits for arrival; in metres."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from volar.nn.primitives.online import approached, pace
from volar.nn.primitives.response import Spring
from volar.reasoning.language.motion_plan import MotionPlan, begin, commanded, followed, lasts, turned, way_done

GOAL_RATE = Spring().alpha / 2  # at which a goal that moves is followed, per duration
SLOWEST = 0.1  # share of its pace at which a motion goes on though the hand is held up, so that it ends some time


@dataclass(frozen=True, kw_only=True)
class Patience:
    """lag: metres that the hand is behind when the motion goes on at half its pace. tolerance: metres from the
    commanded end that count as arrived. settle: seconds to get there. pause: seconds that fingers take."""

    lag: float = 0.02
    tolerance: float = 0.008
    settle: float = 2.0
    pause: float = 0.5


class Follower:
    """One motion under way. closed: whether the fingers shall be closed."""

    def __init__(self, plan: MotionPlan, patience: Patience, *, closed: bool) -> None:
        self.plan, self.closed = plan, closed
        self._patience, self._moment, self._waiting = patience, begin(plan), 0.0
        self._due = sorted(plan.gripper, key=lambda act: act.s)
        self._goal: Float64[np.ndarray, " 3"] | None = None  # as it is followed
        self._beyond = 0.0  # seconds since the primitive's end
        self._late = 0.0  # seconds since arrival, or since patience ran out

    @property
    def finished(self) -> bool:
        return self._late > 0 and not self._due and self._waiting <= 0

    @property
    def share(self) -> float:
        """Of the way to the goal that the undisturbed motion has gone, 0 to 1."""
        return way_done(self.plan, self._moment)

    @property
    def turned(self) -> float:
        """Radians that the hand shall have turned about the vertical since the motion began."""
        return turned(self.plan, self._moment)

    def step(
        self, hand: Float64[np.ndarray, " 3"], goal: Float64[np.ndarray, " 3"], seconds: float
    ) -> Float64[np.ndarray, " 3"]:
        """Where the hand shall be `seconds` from now. hand: where it is."""
        if self._waiting > 0:
            self._waiting -= seconds
            return commanded(self.plan, self._moment)
        lag = float(np.linalg.norm(commanded(self.plan, self._moment) - hand))
        passed = seconds * max(float(pace(torch.tensor(lag), self._patience.lag)), SLOWEST)
        self._goal = goal if self._goal is None else _nearer(self._goal, goal, passed / self.plan.duration)
        (self._moment,) = followed(self.plan, self._moment, self._goal, [passed])
        there = commanded(self.plan, self._moment)
        if self._moment.s >= lasts(self.plan):
            self._beyond += seconds
            arrived = float(np.linalg.norm(there - hand)) < self._patience.tolerance
            self._late += seconds if arrived or self._beyond > self._patience.settle else 0.0
        while self._due and (self._due[0].s <= self._moment.s if self._due[0].s < 1 else self._late > 0):
            self.closed = self._due.pop(0).closes
            self._waiting = self._patience.pause
        return there


def _nearer(
    goal: Float64[np.ndarray, " 3"], wanted: Float64[np.ndarray, " 3"], step: float
) -> Float64[np.ndarray, " 3"]:
    return approached(torch.from_numpy(goal), torch.from_numpy(wanted), step, rate=GOAL_RATE).numpy()
