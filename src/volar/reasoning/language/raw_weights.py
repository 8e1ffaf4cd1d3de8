"""The raw parameters of Language Movement Primitives (arXiv 2602.02839) as published: 5 x 11 weights in [-0.9, 0.9], an
angle and a height, and the primitive that they drive. Kept for comparison with requests in metres (`motion_request`).

Facts that follow from it: a weight of 1 moves the hand by 37 cm at most, an index is no fraction of the way, and late
weights leave centimetres at the end.
"""

from functools import cache
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass
from torch import Tensor

from volar.nn.primitives.response import Response, Spring, respond
from volar.reasoning.language.motion_request import STRICT, first_object, validated

COUNT = 11
LARGEST = 0.9
ROW_GAIN, YAW_GAIN, GRIPPER_GAIN = 20.0, 200.0, 10.0  # by which the program multiplies what the model wrote
ARM = Spring(alpha=20.8, beta=5.2)
FINGERS = Spring(alpha=8.4, beta=10.5)
ARM_FORCE, FINGER_FORCE = 2.0, 8.0
CROSSING = 0.5  # of the gripper's number, where it opens or closes

Weight = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Row = Annotated[tuple[Weight, ...], Field(min_length=COUNT, max_length=COUNT)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RawRequest:
    """weights: rows x, y, z, yaw, gripper. angle: yaw in radians beyond the present one. height: metres above the
    object at the end."""

    weights: Annotated[tuple[Row, ...], Field(min_length=5, max_length=5)]
    angle: Annotated[float, Field(ge=-3.1416, le=3.1416)] = 0.0
    height: Annotated[float, Field(ge=0.0, le=0.3)] = 0.0


SCHEMA: dict[str, Any] = TypeAdapter(RawRequest).json_schema()


def read_weights(text: str) -> RawRequest:
    """The first JSON object in a model's answer. Raises ConfigError that says everything that is wrong with it."""
    return validated(RawRequest, first_object(text), "The weights are")


def _arm_force(s: Float[Tensor, " n"]) -> Float[Tensor, "n k"]:
    """A function of time that is shared out by 11 narrow Gaussians and dies out at the very end."""
    centres = torch.arange(COUNT, dtype=s.dtype) / (COUNT - 1)
    fading = torch.exp(-4.5 * s.clamp(max=1.0) ** 3)[:, None]
    return ARM_FORCE * fading * torch.softmax(-1600.0 * (s[:, None] - centres) ** 2, dim=-1)


def _finger_force(s: Float[Tensor, " n"]) -> Float[Tensor, "n k"]:
    """Eleven equal steps of time; the last one goes on."""
    step = (s.clamp(0.0, 1.0 - 1e-9) * COUNT).floor().long()
    return FINGER_FORCE * torch.nn.functional.one_hot(step, COUNT).to(s.dtype)


@cache
def arm_response(*, last: float = 2.0) -> Response:
    """Of x, y, z and yaw. Shared: read only."""
    return respond(ARM, _arm_force, last=last)


@cache
def finger_response(*, last: float = 2.0) -> Response:
    """Of the gripper's number: 0 open, 1 closed. Shared: read only."""
    return respond(FINGERS, _finger_force, last=last)


def crossing(weights: Row, *, closes: bool) -> float | None:
    """When, as a share of the motion, the gripper acts: its number starts at the opposite and crosses a half. None for
    never."""
    s = torch.linspace(0, 1, 1001, dtype=torch.float64)
    start, goal = (0.0, 1.0) if closes else (1.0, 0.0)
    values = torch.tensor([start, 0.0, goal, *(GRIPPER_GAIN * weight for weight in weights)], dtype=torch.float64)
    number = finger_response().at(s) @ values
    passed = (number > CROSSING) if closes else (number < CROSSING)
    return float(s[int(passed.nonzero()[0])]) if bool(passed.any()) else None
