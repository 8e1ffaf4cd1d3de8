"""A motion that is ready to be followed: a primitive with its weights, its moving goal, and when the gripper acts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from volar.core.errors import ConfigError, unknown_name
from volar.core.objects import NamedObject
from volar.nn.primitives.constrained import Box, Clearance, constrained_weights
from volar.nn.primitives.discrete import Discrete, discrete_response
from volar.nn.primitives.response import Response, rows_at
from volar.reasoning.language.motion_request import MotionRequest, Rhythm
from volar.reasoning.language.raw_weights import ROW_GAIN, YAW_GAIN, RawRequest, arm_response, crossing

AXES = ("x", "y", "z")
SHORTEST = 0.5  # seconds that a motion takes at least
TURN_SPEED = 1.0  # rad/s, of the hand about the vertical at most, where no duration is asked for


@dataclass(frozen=True, kw_only=True)
class GripperAct:
    """At s = time / duration; s >= 1 waits for arrival."""

    s: float
    closes: bool


@dataclass(frozen=True, kw_only=True)
class MotionPlan:
    """goal_object, offset: what is tracked while it moves, metres. weights: [3 k]. duration: seconds. turn: radians
    about the vertical, counter-clockwise from above, with the weights that bend the way there; [1 k]."""

    response: Response
    start: Float64[np.ndarray, " 3"]
    weights: Float64[np.ndarray, "3 k"]
    duration: float
    goal_object: str
    offset: Float64[np.ndarray, " 3"]
    box: Box
    gripper: tuple[GripperAct, ...] = ()
    rhythm: Rhythm | None = None
    turn: float = 0.0
    turn_weights: Float64[np.ndarray, "1 k"] | None = None

    def goal(self, objects: Mapping[str, NamedObject]) -> Float64[np.ndarray, " 3"]:
        """Where the object is now, plus the offset, inside the box."""
        return np.clip(_place(self.goal_object, objects) + self.offset, self.box.low, self.box.high)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Of a motion that is under way, its rhythm left out. position: metres. speed: metres per duration."""

    s: float
    position: Float64[np.ndarray, " 3"]
    speed: Float64[np.ndarray, " 3"]


def plan_request(
    request: MotionRequest, hand: Float64[np.ndarray, " 3"], objects: Mapping[str, NamedObject], box: Box
) -> MotionPlan:
    """From rest where the hand is. Raises ConfigError for a goal outside the box, with how far, and for clearances that
    contradict one another."""
    wanted = _place(request.goal_object, objects) + np.array(request.goal_offset_m)
    beyond = np.maximum(box.low - wanted, wanted - box.high).max()
    if beyond > box.slack:
        raise ConfigError(
            f"The goal {np.round(wanted, 3).tolist()} lies {beyond * 100:.1f} cm outside the workspace, which goes "
            f"from {np.round(box.low, 3).tolist()} to {np.round(box.high, 3).tolist()} m."
        )
    goal = np.clip(wanted, box.low, box.high)
    clearances = [
        Clearance(at=via.at_fraction, axis=AXES.index(via.axis), metres=via.clearance_m) for via in request.vias
    ]
    response = discrete_response(Discrete())
    weights = constrained_weights(response, hand, goal, clearances, box)
    straight, turn = np.zeros((1, weights.shape[1])), np.array([request.yaw_rad])
    seconds = (
        _fastest(response, hand, goal, weights) / request.speed_m_s,
        _fastest(response, np.zeros(1), turn, straight) / TURN_SPEED,
    )
    return MotionPlan(
        response=response,
        start=hand,
        weights=weights,
        duration=max(*seconds, SHORTEST),
        goal_object=request.goal_object,
        offset=np.array(request.goal_offset_m),
        box=box,
        gripper=tuple(GripperAct(s=event.at_fraction, closes=event.event == "close") for event in request.gripper),
        rhythm=request.rhythmic,
        turn=request.yaw_rad,
    )


def _fastest(
    response: Response, start: Float64[np.ndarray, " d"], goal: Float64[np.ndarray, " d"],
    weights: Float64[np.ndarray, "d k"],
) -> float:  # fmt: skip
    """Metres, or radians, per duration from rest, detours included."""
    rows = rows_at(response, np.linspace(0, 1, 201)).speed
    values = np.concatenate([np.stack([start, np.zeros_like(start), goal], axis=1), weights], axis=1)
    return float(np.linalg.norm(rows @ values.T, axis=1).max())


def plan_raw(
    request: RawRequest,
    goal_object: str,
    hand: Float64[np.ndarray, " 3"],
    objects: Mapping[str, NamedObject],
    box: Box,
    *,
    closes: bool,
    duration: float,
) -> MotionPlan:
    """The published weights, as they are. Raises ConfigError for an unknown object."""
    _place(goal_object, objects)
    when = crossing(request.weights[4], closes=closes)
    return MotionPlan(
        response=arm_response(),
        start=hand,
        weights=ROW_GAIN * np.array(request.weights[:3], dtype=np.float64),
        duration=duration,
        goal_object=goal_object,
        offset=np.array([0.0, 0.0, request.height]),
        box=box,
        gripper=() if when is None else (GripperAct(s=when, closes=closes),),
        turn=request.angle,
        turn_weights=YAW_GAIN * np.array(request.weights[3:4], dtype=np.float64),
    )


def begin(plan: MotionPlan) -> Moment:
    return Moment(s=0.0, position=plan.start, speed=np.zeros(3))


def followed(plan: MotionPlan, now: Moment, goal: Float64[np.ndarray, " 3"], seconds: Sequence[float]) -> list[Moment]:
    """The next moments, `seconds` from now, ascending, if the goal stays. One that has moved is approached from where
    the motion is, without a jump."""
    end = plan.response.last
    s = np.array([now.s + each / plan.duration for each in seconds])
    rows = rows_at(plan.response, np.append(min(now.s, end), np.minimum(s, end)))
    values = np.concatenate([goal[:, None], plan.weights], axis=1).T
    # Start and start speed that lead through the moment as it is: from here on the motion is theirs.
    here = np.stack([rows.position[0], rows.speed[0]])
    begun = np.linalg.solve(here[:, :2], np.stack([now.position, now.speed]) - here[:, 2:] @ values)
    values = np.concatenate([begun, values])
    states = zip(s.tolist(), rows.position[1:] @ values, rows.speed[1:] @ values, strict=True)
    return [Moment(s=moment, position=place, speed=speed) for moment, place, speed in states]


def commanded(plan: MotionPlan, moment: Moment) -> Float64[np.ndarray, " 3"]:
    """Where the hand shall be: the motion and, after arrival, its rhythm, inside the box."""
    aside = np.zeros(3)
    if plan.rhythm is not None and 1.0 < moment.s < lasts(plan):
        phase = 2 * math.pi * (moment.s - 1.0) * plan.duration / plan.rhythm.period_s
        aside[AXES.index(plan.rhythm.axis)] = plan.rhythm.amplitude_m * math.sin(phase)
    return np.clip(moment.position + aside, plan.box.low, plan.box.high)


def turned(plan: MotionPlan, moment: Moment) -> float:
    """Radians since the motion began."""
    row = rows_at(plan.response, np.array([min(moment.s, plan.response.last)])).position[0, 2:]
    bent = 0.0 if plan.turn_weights is None else float(plan.turn_weights[0] @ row[1:])
    return plan.turn * float(row[0]) + bent


def lasts(plan: MotionPlan) -> float:
    """Until s, arrival and rhythm included."""
    swinging = 0.0 if plan.rhythm is None else plan.rhythm.cycles * plan.rhythm.period_s / plan.duration
    return 1.0 + swinging


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """The course that a motion will take if nothing moves. points: metres. shares: of the straight way, see
    `way_done`."""

    points: Float64[np.ndarray, "n 3"]
    shares: Float64[np.ndarray, " n"]


def foresee(plan: MotionPlan, objects: Mapping[str, NamedObject], *, count: int = 81) -> Foreseen:
    """Up to arrival, without the rhythm after it."""
    seconds = np.linspace(0, 1, count)[1:] * plan.duration
    moments = [begin(plan), *followed(plan, begin(plan), plan.goal(objects), seconds.tolist())]
    return Foreseen(
        points=np.stack([np.clip(each.position, plan.box.low, plan.box.high) for each in moments]),
        shares=np.array([way_done(plan, each) for each in moments]),
    )


def way_done(plan: MotionPlan, moment: Moment) -> float:
    """Share of the straight way that the motion would have gone by now without its weights."""
    rows = rows_at(plan.response, np.array([moment.s]))
    return min(1.0, max(0.0, float(rows.position[0, 2])))


def _place(name: str, objects: Mapping[str, NamedObject]) -> Float64[np.ndarray, " 3"]:
    if name not in objects:
        raise unknown_name("object", name, objects)
    return objects[name].position
