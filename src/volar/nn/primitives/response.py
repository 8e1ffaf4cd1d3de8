"""What a damped spring does under a given force: y'' = alpha (beta (goal - y) - y') + force(s), s = time / duration.

The equation is linear, so every trajectory is one matrix times (start, start speed, goal, weights of the force). The
matrix is computed once; batches, durations and gradients then cost a product (the closed form behind ProDMP,
arXiv 2210.01531).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from volar.core.errors import ConfigError

STEPS = 1000  # of the grid, per unit of s
NODES, SHARES = (0.1127016654, 0.5, 0.8872983346), (5 / 18, 8 / 18, 5 / 18)  # Gauss-Legendre on [0, 1]


@dataclass(frozen=True, kw_only=True)
class Spring:
    """In units of the duration. beta = alpha / 4 is critical damping: the fastest approach that does not overshoot."""

    alpha: float = 25.0
    beta: float = 6.25

    def __post_init__(self) -> None:
        if self.alpha <= 0 or self.beta <= 0:
            raise ConfigError(f"A spring needs alpha and beta above 0, got {self.alpha} and {self.beta}.")


@dataclass(frozen=True, kw_only=True)
class Response:
    """On a grid of s from 0 in steps of 1 / STEPS: columns are what start, start speed, goal and each weight add.

    Speeds are per duration. Between the points of the grid it is a cubic, so that it can be differentiated by s.
    """

    position: Float[Tensor, "n m"]
    speed: Float[Tensor, "n m"]

    @property
    def last(self) -> float:
        """The largest s."""
        return (len(self.position) - 1) / STEPS

    def at(self, s: Float[Tensor, "..."]) -> Float[Tensor, "... m"]:
        """Rows of the matrix; s outside the grid is taken to its end."""
        cell = self._cell(s)
        position, speed = self.position.to(s.device), self.speed.to(s.device)
        u, low, high = cell.fraction, cell.number, cell.number + 1
        value = (1 + 2 * u) * (1 - u) ** 2 * position[low] + u**2 * (3 - 2 * u) * position[high]
        return value + (u * (1 - u) ** 2 * speed[low] + u**2 * (u - 1) * speed[high]) / STEPS

    def speed_at(self, s: Float[Tensor, "..."]) -> Float[Tensor, "... m"]:
        """As `at`, for the change per duration."""
        cell = self._cell(s)
        position, speed = self.position.to(s.device), self.speed.to(s.device)
        u, low, high = cell.fraction, cell.number, cell.number + 1
        value = 6 * u * (1 - u) * (position[high] - position[low]) * STEPS
        return value + (1 - u) * (1 - 3 * u) * speed[low] + u * (3 * u - 2) * speed[high]

    def _cell(self, s: Float[Tensor, "..."]) -> "_Cell":
        place = s.clamp(0.0, self.last) * STEPS
        number = place.detach().floor().long().clamp(max=len(self.position) - 2)
        return _Cell(number=number, fraction=(place - number).to(self.position)[..., None])


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Of the response, at some s: what each column adds to the position, and to the speed per duration."""

    position: Float64[np.ndarray, "t m"]
    speed: Float64[np.ndarray, "t m"]


def rows_at(response: Response, s: Float64[np.ndarray, " t"]) -> Rows:
    """`at` and `speed_at` in numpy, for whoever follows one motion tick by tick: on so few numbers torch takes five
    times as long."""
    position, speed = response.position.numpy(), response.speed.numpy()
    place = np.clip(s, 0.0, response.last) * STEPS
    low = np.minimum(place.astype(np.int64), len(position) - 2)
    u, rise = (place - low)[:, None], position[low + 1] - position[low]
    before, after = speed[low] / STEPS, speed[low + 1] / STEPS
    value = position[low] + u**2 * (3 - 2 * u) * rise + u * (1 - u) ** 2 * before + u**2 * (u - 1) * after
    slope = 6 * u * (1 - u) * rise + (1 - u) * (1 - 3 * u) * before + u * (3 * u - 2) * after
    return Rows(position=value, speed=STEPS * slope)


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """Of the grid: its number, and how far along it, from 0 to 1."""

    number: Int[Tensor, "..."]
    fraction: Float[Tensor, "... 1"]


def respond(
    spring: Spring, force: Callable[[Float[Tensor, " n"]], Float[Tensor, "n k"]], *, last: float,
    fade: Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]] | None = None,
) -> Response:  # fmt: skip
    """The response up to s = last, exact but for the quadrature of the force (below 1e-9 of its size).

    force: of each weight, at the given s. fade: phase of "smooth scaling", 1 at first: it takes the spring's pull
    towards the goal away in the beginning, so that acceleration does not jump.
    """
    step = 1 / STEPS
    system = torch.tensor([[0.0, 1.0], [-spring.alpha * spring.beta, -spring.alpha]], dtype=torch.float64)
    over_step = torch.linalg.matrix_exp(system * step)
    starts = torch.arange(round(last * STEPS), dtype=torch.float64) * step
    gains = torch.zeros((), dtype=torch.float64)
    for node, share in zip(NODES, SHARES, strict=True):
        s = starts + node * step
        pull = torch.ones_like(s) if fade is None else 1 - fade(s)
        # Acceleration by start, start speed, goal and weights. Without fading the start pulls by nothing.
        start_pull = torch.zeros_like(s) if fade is None else fade(s)
        stiff = spring.alpha * spring.beta
        channels = torch.cat(
            [(stiff * start_pull)[:, None], torch.zeros_like(s)[:, None], (stiff * pull)[:, None], force(s)], dim=1
        )
        answer = torch.linalg.matrix_exp(system * ((1 - node) * step))[:, 1]
        gains = gains + share * step * answer[None, :, None] * channels[:, None]
    state = torch.zeros(2, gains.shape[-1], dtype=torch.float64)
    state[0, 0] = state[1, 1] = 1.0
    states = [state]
    for gain in gains:
        state = over_step @ state + gain
        states.append(state)
    grid = torch.stack(states)
    return Response(position=grid[:, 0], speed=grid[:, 1])


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Of one motion per row. start, goal: positions [b d]. speed: at the start, per second [b d]. weights: of the
    force, in the unit of the positions [b d k]. duration: seconds [b]."""

    start: Float[Tensor, "b d"]
    speed: Float[Tensor, "b d"]
    goal: Float[Tensor, "b d"]
    weights: Float[Tensor, "b d k"]
    duration: Float[Tensor, " b"]

    def stacked(self) -> Float[Tensor, "b d m"]:
        """In the order of the response's columns; the speed per duration."""
        first = torch.stack([self.start, self.speed * self.duration[:, None], self.goal], dim=-1)
        return torch.cat([first, self.weights], dim=-1)


@dataclass(frozen=True, kw_only=True)
class Motion:
    """position: [b t d]. velocity: per second [b t d]."""

    position: Float[Tensor, "b t d"]
    velocity: Float[Tensor, "b t d"]


def motion(response: Response, parameters: Parameters, times: Float[Tensor, "*b t"]) -> Motion:
    """The trajectories at `times`: seconds [t], or [b t] for times of their own. Differentiable in all of them."""
    _require_weights(response, parameters)
    duration, values = parameters.duration[:, None], parameters.stacked()
    s = times.to(values) / duration
    return Motion(
        position=torch.einsum("btm,bdm->btd", response.at(s).to(values), values),
        velocity=torch.einsum("btm,bdm->btd", response.speed_at(s).to(values), values) / duration[..., None],
    )


def fitted(
    response: Response, positions: Float[Tensor, "b t d"], times: Float[Tensor, " t"], *, ridge: float = 1e-8
) -> Parameters:
    """The motion that starts and ends as each demonstration does and is nearest to it in between (least squares on
    positions, so that nothing noisy is differentiated). ridge: in units of the mean squared response."""
    duration = (times[-1] - times[0]).expand(len(positions))
    step = times[1] - times[0]
    bare = Parameters(
        start=positions[:, 0],
        speed=(positions[:, 1] - positions[:, 0]) / step,
        goal=positions[:, -1],
        weights=positions.new_zeros(len(positions), positions.shape[2], response.position.shape[1] - 3),
        duration=duration.to(positions),
    )
    rows = response.at((times - times[0]) / (times[-1] - times[0]))[:, 3:].double()
    left = (positions - motion(response, bare, times - times[0]).position).double()
    gram = rows.T @ rows
    gram = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    weights = torch.linalg.solve(gram, rows.T @ left.transpose(0, 1).reshape(len(times), -1))
    weights = weights.T.reshape(len(positions), positions.shape[2], -1).to(positions)
    return replace(bare, weights=weights)


def _require_weights(response: Response, parameters: Parameters) -> None:
    expected = response.position.shape[1] - 3
    if parameters.weights.shape[-1] != expected:
        raise ConfigError(f"This primitive has {expected} weights per dimension, got {parameters.weights.shape[-1]}.")
