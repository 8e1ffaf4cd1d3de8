"""Weights of least effort under wishes in metres: pass a thing with clearance, stay inside a box, end where told.

A wish that cannot be granted is named, with the amount by which it fails; nothing is silently relaxed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from scipy.optimize import linprog, minimize

from volar.core.errors import ConfigError
from volar.nn.primitives.response import Response
from volar.nn.primitives.via import effort

GRID = 81  # moments of the motion at which limits are held
STAYS = (1.1, 1.25, 1.5)  # after it, when the force that is left would still lead away from the goal
ROUNDING = 1e-6  # metres


@dataclass(frozen=True, kw_only=True)
class Clearance:
    """At the fraction `at` of the straight way, be at least `metres` (its sign is the side) off it along `axis`."""

    at: float
    axis: int
    metres: float


@dataclass(frozen=True, kw_only=True)
class Box:
    """low, high: metres, per axis. slack: how far a detour may go beyond the clearance asked for; end: how far from
    the goal the motion may be after one duration and from then on."""

    low: Float64[np.ndarray, " d"]
    high: Float64[np.ndarray, " d"]
    slack: float = 0.05
    end: float = 0.002


@dataclass(frozen=True)
class _Wishes:
    """rows @ weights <= bounds, each with what it says."""

    rows: Float64[np.ndarray, "n k"]
    bounds: Float64[np.ndarray, " n"]
    words: list[str]


def moment_of(response: Response, fraction: float) -> float:
    """When, as s = time / duration, the undisturbed motion has gone that fraction of its way."""
    s = torch.linspace(0, 1, 1001, dtype=torch.float64)
    way = response.at(s)[:, 2].numpy()
    return float(np.interp(fraction, way, s.numpy()))


def constrained_weights(
    response: Response, start: Float64[np.ndarray, " d"], goal: Float64[np.ndarray, " d"],
    clearances: Sequence[Clearance], box: Box, *, names: Sequence[str] = ("x", "y", "z"),
) -> Float64[np.ndarray, "d k"]:  # fmt: skip
    """Weights per axis, from rest. Raises ConfigError for wishes outside their ranges or that contradict one another or
    the box: which one, and by how much."""
    for wish in clearances:
        if not 0 < wish.at < 1 or not 0 <= wish.axis < len(start):
            raise ConfigError(
                f"A clearance is asked for at 0 < fraction < 1 on an axis 0 to {len(start) - 1}; got {wish}."
            )
    s = torch.cat([torch.linspace(0, 1, GRID, dtype=torch.float64), torch.tensor(STAYS, dtype=torch.float64)])
    rows, quadratic = response.at(s).numpy(), effort(response).numpy()
    found = []
    for axis, name in enumerate(names[: len(start)]):
        straight = rows[:, 0] * start[axis] + rows[:, 2] * goal[axis]
        mine = [wish for wish in clearances if wish.axis == axis]
        wishes = _wishes(response, rows[:, 3:], straight, mine, box, name, axis, float(goal[axis]))
        found.append(_least_effort(quadratic, wishes))
    return np.stack(found)


def _wishes(
    response: Response, bends: np.ndarray, straight: np.ndarray, clearances: Sequence[Clearance], box: Box, name: str,
    axis: int, goal: float,
) -> _Wishes:  # fmt: skip
    up = max([wish.metres for wish in clearances if wish.metres > 0], default=0.0)
    down = min([wish.metres for wish in clearances if wish.metres < 0], default=0.0)
    rows, bounds, words = [bends, -bends], [], []
    for sign, limit, aside, side in ((1, box.high[axis], up, "above"), (-1, box.low[axis], -down, "below")):
        room = np.minimum(sign * (limit - straight), aside + box.slack)
        bounds.append(room)
        words += [f"{name} must not go {side} {limit:g} m, nor {aside + box.slack:g} m off its straight way"] * len(
            room
        )
    for wish in clearances:
        moment = torch.tensor(moment_of(response, wish.at), dtype=torch.float64)
        here = response.at(moment)[3:].numpy()
        rows.append(-np.sign(wish.metres) * here[None])
        bounds.append(np.array([-abs(wish.metres)]))
        words.append(f"{name} must be {wish.metres:+g} m off its straight way after {wish.at:.0%} of it")
    ends, left = bends[GRID - 1 :], goal - straight[GRID - 1 :]
    rows += [ends, -ends]
    bounds += [left + box.end, box.end - left]
    words += [f"{name} must end within {box.end:g} m of the goal and stay there"] * 2 * len(ends)
    return _Wishes(np.concatenate(rows), np.concatenate(bounds), words)


def _least_effort(quadratic: np.ndarray, wishes: _Wishes) -> Float64[np.ndarray, " k"]:
    size = len(quadratic)
    if (wishes.bounds >= 0).all():
        return np.zeros(size)
    # How much must the wishes give for all to be granted? Nothing, or there is no solution.
    cost = np.append(np.zeros(size), 1.0)
    relaxed = np.hstack([wishes.rows, -np.ones((len(wishes.rows), 1))])
    bounds = [*[(None, None)] * size, (0, None)]
    easiest = linprog(cost, A_ub=relaxed, b_ub=wishes.bounds, bounds=bounds)
    if easiest.status != 0 or easiest.x[-1] > ROUNDING:
        missing = wishes.rows @ easiest.x[:size] - wishes.bounds
        broken = list(dict.fromkeys(wishes.words[row] for row in np.flatnonzero(missing > easiest.x[-1] - ROUNDING)))
        raise ConfigError(
            f"These cannot all hold; a compromise misses each by {easiest.x[-1] * 100:.1f} cm: {'; '.join(broken)}."
        )
    scale = 1 / np.abs(wishes.rows).max()
    solved = minimize(
        lambda w: 0.5 * w @ quadratic @ w, easiest.x[:size], jac=lambda w: quadratic @ w, method="SLSQP",
        constraints={"type": "ineq", "fun": lambda w: scale * (wishes.bounds - wishes.rows @ w),
                     "jac": lambda w: -scale * wishes.rows},
        options={"maxiter": 300, "ftol": 1e-12},
    )  # fmt: skip
    good = (wishes.rows @ solved.x - wishes.bounds).max() < 1e-4
    return solved.x if good else easiest.x[:size]
