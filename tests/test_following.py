"""Following a motion plan: the primitive waits for a hand that lags, a goal that jumps is followed without a jerk."""

from itertools import pairwise

import numpy as np

from volar.core.objects import NamedObject
from volar.nn.primitives.constrained import Box
from volar.reasoning.language.following import Follower, Patience
from volar.reasoning.language.motion_plan import MotionPlan, plan_request
from volar.reasoning.language.motion_request import MotionRequest, Via

BOX = Box(low=np.array([-0.25, -0.25, 0.01]), high=np.array([0.25, 0.25, 0.25]))
HAND = np.array([-0.15, 0.0, 0.1])
PLACE = np.array([0.15, 0.05, 0.02])
TICK = 0.05


def plan(speed: float = 0.15) -> MotionPlan:
    request = MotionRequest(
        goal_object="cube", speed_m_s=speed, vias=(Via(at_fraction=0.5, axis="y", clearance_m=0.1),)
    )
    return plan_request(request, HAND, {"cube": NamedObject(position=PLACE, size=np.full(3, 0.03))}, BOX)


def course(follower: Follower, *, fastest: float = np.inf, held: range = range(0), goal: np.ndarray = PLACE):
    """Commands and places of a hand that moves at most `fastest` metres per tick and not at all while held."""
    hand, commands, places = HAND, [], []
    for number in range(900):
        there = follower.step(hand, goal if number >= 10 else PLACE, TICK)
        way = there - hand
        if number not in held:
            hand = hand + way * min(1.0, fastest / max(float(np.linalg.norm(way)), 1e-9))
        commands.append(there)
        places.append(hand)
        if follower.finished:
            break
    assert follower.finished
    return np.array(commands), np.array(places)


def farthest(path: np.ndarray, line: np.ndarray) -> float:
    """From the points of a path to the nearest of a line."""
    return float(np.linalg.norm(path[:, None] - line, axis=-1).min(axis=1).max())


def test_a_slow_hand_goes_the_same_way_later():
    ideal, _ = course(Follower(plan(), Patience(), closed=False))
    fine = np.concatenate([np.linspace(a, b, 20) for a, b in pairwise(ideal)])
    waits, heedless = (
        course(Follower(plan(speed=0.3), Patience(lag=lag), closed=False), fastest=0.004)[1] for lag in (0.02, 1e6)
    )
    assert farthest(waits, fine) < 0.4 * farthest(heedless, fine), "a heedless primitive lets the hand cut the corner"
    assert np.linalg.norm(waits[-1] - PLACE) < 0.01


def test_a_hand_that_is_held_up_is_not_left_behind_and_a_blocked_one_does_not_wait_for_ever():
    commands, places = course(Follower(plan(), Patience(), closed=False), held=range(20, 60))
    heedless, held = course(Follower(plan(), Patience(lag=1e6), closed=False), held=range(20, 60))
    behind, usual = (np.linalg.norm(a - b, axis=1).max() for a, b in ((commands, places), (heedless, held)))
    assert behind < 0.6 * usual
    course(Follower(plan(), Patience(), closed=False), held=range(20, 600))


def test_a_goal_that_jumps_is_followed_without_a_jerk():
    path, _ = course(Follower(plan(), Patience(), closed=False), goal=np.array([0.1, -0.15, 0.02]))
    assert np.linalg.norm(path[-1] - [0.1, -0.15, 0.02]) < 0.01
    pushes = np.linalg.norm(np.diff(path, n=2, axis=0), axis=1) / TICK**2
    still, _ = course(Follower(plan(), Patience(), closed=False))
    usual = np.linalg.norm(np.diff(still, n=2, axis=0), axis=1) / TICK**2
    assert pushes[8:14].max() < 2 * usual.max()
