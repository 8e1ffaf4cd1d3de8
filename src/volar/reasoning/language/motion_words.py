"""What a motion will do, in words: for a person who is asked, for records, and for a critic."""

from collections.abc import Sequence

from volar.reasoning.language.motion_plan import GripperAct, MotionPlan
from volar.reasoning.language.motion_request import MotionRequest
from volar.reasoning.language.raw_weights import RawRequest


def request_words(request: MotionRequest, plan: MotionPlan) -> str:
    """One sentence; metres and seconds."""
    vias = [
        f"at least {via.clearance_m:+.2f} m off the straight way along {via.axis} at {via.at_fraction:.0%} of it"
        for via in request.vias
    ]
    swing = request.rhythmic
    swings = [] if swing is None else [
        f"then {swing.cycles} swings of {swing.amplitude_m:.2f} m along {swing.axis}, {swing.period_s:g} s each"
    ]  # fmt: skip
    return "; ".join([_goal(plan), *_turn(plan), *vias, *gripper_words(plan.gripper), *swings])


def raw_words(request: RawRequest, plan: MotionPlan) -> str:
    """One sentence."""
    bent = sum(weight != 0 for row in request.weights[:4] for weight in row)
    return "; ".join([_goal(plan), *_turn(plan), f"bent by {bent} weights", *gripper_words(plan.gripper)])


def _goal(plan: MotionPlan) -> str:
    x, y, z = plan.offset
    beside = "" if not plan.offset.any() else f" + ({x:.3f}, {y:.3f}, {z:.3f}) m"
    return f"to {plan.goal_object}{beside} in {plan.duration:.1f} s"


def _turn(plan: MotionPlan) -> list[str]:
    return [f"turned by {plan.turn:+.2f} rad"] if plan.turn else []


def gripper_words(acts: Sequence[GripperAct]) -> list[str]:
    return [
        f"{'close' if act.closes else 'open'} the gripper "
        + ("after arrival" if act.s >= 1 else f"at {act.s:.0%} of the time")
        for act in acts
    ]
