"""Probability paths, time sampling and the steps of an ordinary differential equation, for flow matching.

pi0's conventions (arXiv 2410.24164): time 1 is noise and 0 is data, x_t = t * noise + (1 - t) * data, the velocity
is noise - data, and sampling goes from 1 down to 0. Papers that let time run the other way negate both.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from volar.core.errors import ConfigError, unknown_name
from volar.core.model import UNLIMITED, Budget, Field, Sample, masked_mean
from volar.nn.budget import Metered

Solver = Literal["euler", "midpoint", "heun"]
VELOCITY = "velocity from data to noise on the straight path"
STEP_COST: dict[Solver, int] = {"euler": 1, "midpoint": 2, "heun": 2}  # network evaluations of one step


def require_steps(steps: int, solver: str) -> None:
    """ConfigError unless `integrate` can take so many steps of that solver."""
    if steps < 1:
        raise ConfigError(f"Flow: steps must be at least 1, got {steps}.")
    if solver not in STEP_COST:
        raise unknown_name("solver", solver, STEP_COST)


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


def matching_loss(
    velocity: Field, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"], *, alpha: float, beta: float,
    generator: torch.Generator | None,
) -> Float[Tensor, " b"]:  # fmt: skip
    """Conditional flow matching: squared error of `velocity` on the straight path from each chunk to Gaussian noise, at
    a time from Beta(alpha, beta)."""
    noise = torch.randn(actions.shape, generator=generator, device=actions.device)
    time = sample_time(len(actions), alpha=alpha, beta=beta, generator=generator, device=actions.device)
    predicted = velocity(interpolate(actions, noise, time), time)
    return masked_mean((predicted - (noise - actions)).square().mean(-1), valid)


def integrate(
    velocity: Field, start: Float[Tensor, "b h a"], *, steps: int, solver: Solver, budget: Budget = UNLIMITED
) -> Sample:
    """Follow `velocity` from time 1 to time 0 in equal steps. Order: Euler 1, midpoint and Heun 2.

    A limited budget takes the place of `steps`: as many steps as it pays for (one Euler step where it does not pay for
    one step of the solver). The slope at the start serves any number of steps, so seconds are turned into a number of
    steps once the first evaluation was timed. Where time runs out all the same, one last step goes down to 0 with the
    slope at hand.
    """
    meter = Metered(velocity, budget, start.device)
    times = torch.ones(len(start), device=start.device)
    state, slope = start, meter(start, times)
    if (left := meter.left()) is not None:
        solver = solver if left + 1 >= STEP_COST[solver] else "euler"
        steps = (left + 1) // STEP_COST[solver]
    delta = -1.0 / steps
    for index in range(steps):
        time = 1 + index * delta
        if index:
            slope = meter(state, time * times)
        if solver == "midpoint" and meter.left() != 0:
            slope = meter(state + delta / 2 * slope, (time + delta / 2) * times)
        elif solver == "heun" and meter.left() != 0:
            slope = (slope + meter(state + delta * slope, (time + delta) * times)) / 2
        if meter.left() == 0:
            state = state - time * slope
            break
        state = state + delta * slope
    return Sample.after(meter.evaluations, state)
