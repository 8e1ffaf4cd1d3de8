"""A primitive told by the points that it passes, with the least effort that does it: few numbers in the unit of the
motion, in place of weights that mean nothing to anybody."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from volar.core.errors import ConfigError
from volar.nn.primitives.response import STEPS, Response

RIDGE = 1e-6  # beside the squared accelerations, so that weights which do nothing stay 0


def effort(response: Response) -> Float[Tensor, "k k"]:
    """Quadratic form in the weights: the sum of squared accelerations that they cause within the duration."""
    inside = response.position[: STEPS + 1 : 10, 3:]
    bends = inside.diff(n=2, dim=0) / 0.01**2
    return bends.T @ bends + RIDGE * torch.eye(inside.shape[1], dtype=inside.dtype)


def via_rows(response: Response, s: Float[Tensor, "*t"], points: Sequence[float]) -> Float[Tensor, "*t m"]:
    """As `Response.at`, with columns start, start speed, goal, then the position at each of `points` (values of s,
    ascending, inside (0, 1)) in place of weights."""
    weights = response.position.shape[1] - 3
    if not all(0 < a < b < 1 for a, b in zip(points, (*points[1:], 1.0 - 1e-9), strict=True)) or len(points) > weights:
        raise ConfigError(
            f"Via points lie inside (0, 1), ascend, and are at most {weights}, one per weight; got {points}."
        )
    passed = response.at(torch.tensor(points, dtype=torch.float64))
    to_points = torch.linalg.solve(effort(response), passed[:, 3:].T)
    solve = to_points @ torch.linalg.inv(passed[:, 3:] @ to_points)
    rows = response.at(s)
    solve, passed = solve.to(rows), passed.to(rows)
    free = rows[..., :3] - rows[..., 3:] @ (solve @ passed[:, :3])
    return torch.cat([free, rows[..., 3:] @ solve], dim=-1)
