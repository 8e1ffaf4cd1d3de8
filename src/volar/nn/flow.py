"""Probability paths, time sampling and the steps of an ordinary differential equation, for flow matching.

pi0's conventions (arXiv 2410.24164): time 1 is noise and 0 is data, x_t = t * noise + (1 - t) * data, the velocity
is noise - data, and sampling goes from 1 down to 0. Papers that let time run the other way negate both.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Solver = Literal["euler", "midpoint", "heun"]
STEP_COST: dict[Solver, int] = {"euler": 1, "midpoint": 2, "heun": 2}  # network evaluations of one step


def sample_time(size: int, *, alpha: float, beta: float, generator: torch.Generator | None, device: torch.device | str
                ) -> Float[Tensor, " b"]:  # fmt: skip
    """Times in (0.001, 1] from Beta(alpha, beta); pi0 uses (1.5, 1), which prefers noisy times.

    Drawn as gamma variates, so that `generator` makes them reproducible.
    """
    concentration = torch.tensor([alpha, beta], device=device).expand(size, 2)
    gammas = torch._standard_gamma(concentration, generator=generator)
    return gammas[:, 0] / gammas.sum(-1) * 0.999 + 0.001


def interpolate(
    data: Float[Tensor, "b h a"], noise: Float[Tensor, "b h a"], time: Float[Tensor, " b"]
) -> Float[Tensor, "b h a"]:
    """x_t on the straight path from data (t = 0) to noise (t = 1)."""
    weight = time[:, None, None]
    return weight * noise + (1 - weight) * data


def integrate(
    velocity: Callable[[Tensor, Tensor], Tensor], start: Float[Tensor, "b h a"], *, steps: int, solver: Solver
) -> Float[Tensor, "b h a"]:
    """Follow `velocity(x, time [b])` from time 1 to time 0 in equal steps. Order: Euler 1, midpoint and Heun 2."""
    state, delta = start, -1.0 / steps
    for index in range(steps):
        time = torch.full((len(state),), 1 + index * delta, device=state.device)
        slope = velocity(state, time)
        if solver == "midpoint":
            slope = velocity(state + delta / 2 * slope, time + delta / 2)
        elif solver == "heun":
            slope = (slope + velocity(state + delta * slope, time + delta)) / 2
        state = state + delta * slope
    return state
