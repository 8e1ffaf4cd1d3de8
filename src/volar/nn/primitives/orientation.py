"""Discrete primitives for orientations (Ude et al. 2014): the spring pulls along the shortest rotation to the goal.

Quaternions are [w x y z] with norm 1. Four springs for four numbers would not stay on the sphere.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from volar.core.errors import ConfigError
from volar.nn.primitives.discrete import Discrete, force, phase

Quaternion = Float[Tensor, "... 4"]
RotationVector = Float[Tensor, "... 3"]


def multiply(first: Quaternion, second: Quaternion) -> Quaternion:
    """The rotation `second`, then `first`."""
    w, v = first[..., :1], first[..., 1:]
    x, u = second[..., :1], second[..., 1:]
    scalar = w * x - (v * u).sum(-1, keepdim=True)
    return torch.cat([scalar, w * u + x * v + torch.linalg.cross(v, u)], dim=-1)


def conjugate(rotation: Quaternion) -> Quaternion:
    return torch.cat([rotation[..., :1], -rotation[..., 1:]], dim=-1)


def logarithm(rotation: Quaternion) -> RotationVector:
    """Axis times angle in radians, at most pi: of q and -q, which are the same rotation, the short way round."""
    rotation = torch.where(rotation[..., :1] < 0, -rotation, rotation)
    w, v = rotation[..., :1], rotation[..., 1:]
    size = (v * v).sum(-1, keepdim=True).clamp_min(1e-30).sqrt()
    # angle / sin(angle / 2) tends to 2; the quotient would lose its digits there.
    return v * torch.where(size < 1e-7, 2.0 / w, 2 * torch.atan2(size, w) / size)


def exponential(vector: RotationVector) -> Quaternion:
    """The inverse of `logarithm`."""
    angle = (vector * vector).sum(-1, keepdim=True).clamp_min(1e-30).sqrt()
    return torch.cat([torch.cos(angle / 2), vector * torch.where(angle < 1e-7, 0.5, torch.sin(angle / 2) / angle)], -1)


@dataclass(frozen=True, kw_only=True)
class Turning:
    """rotation: [b t 4]. velocity: angular, radians per second in the fixed frame [b t 3]."""

    rotation: Float[Tensor, "b t 4"]
    velocity: Float[Tensor, "b t 3"]


def turn(
    config: Discrete, *, start: Float[Tensor, "b 4"], goal: Float[Tensor, "b 4"], weights: Float[Tensor, "b 3 k"],
    duration: Float[Tensor, " b"], times: Float[Tensor, " t"], steps: int = 1000,
) -> Turning:  # fmt: skip
    """From rest at `start` to `goal`, integrated over `steps` equal steps of times[-1]; `times` in seconds, ascending
    from 0. Differentiable; the sphere is not left, since every step multiplies by a rotation."""
    if weights.shape[-1] != config.weights:
        raise ConfigError(f"This primitive has {config.weights} weights per dimension, got {weights.shape[-1]}.")
    alpha, beta = config.spring.alpha, config.spring.beta
    tau, dt = duration[:, None], (times[-1] / steps).to(start)
    middles = (torch.arange(steps, dtype=start.dtype) + 0.5) * dt
    s = middles[:, None] / duration
    forces = torch.einsum("nbk,bjk->nbj", force(config, s.reshape(-1)).reshape(*s.shape, -1), weights)
    fade = phase(s, config.end)[..., None] * logarithm(multiply(goal, conjugate(start))) * float(config.smooth)
    rotation, momentum = start, torch.zeros_like(start[:, 1:])
    path, speeds = [rotation], [momentum / tau]
    for number in range(steps):
        away = logarithm(multiply(goal, conjugate(rotation))) - fade[number]
        momentum = momentum + dt / tau * (alpha * (beta * away - momentum) + forces[number])
        rotation = multiply(exponential(momentum / tau * dt), rotation)
        rotation = rotation / rotation.norm(dim=-1, keepdim=True)
        path.append(rotation)
        speeds.append(momentum / tau)
    nearest = (times / dt).round().long()
    return Turning(rotation=torch.stack(path, 1)[:, nearest], velocity=torch.stack(speeds, 1)[:, nearest])


def fitted_turn(
    config: Discrete, rotations: Float[Tensor, "b t 4"], times: Float[Tensor, " t"], *, ridge: float = 1e-8
) -> Float[Tensor, "b 3 k"]:
    """Weights under which `turn` repeats demonstrations that begin and end at rest. The signs of the quaternions do
    not matter."""
    tau = times[-1] - times[0]
    dt = times[1] - times[0]
    between = logarithm(multiply(rotations[:, 1:], conjugate(rotations[:, :-1]))) / dt
    speed = torch.cat([between[:, :1], (between[:, 1:] + between[:, :-1]) / 2, between[:, -1:]], dim=1)
    change = torch.gradient(speed, spacing=float(dt), dim=1)[0]
    away = logarithm(multiply(rotations[:, -1:].expand_as(rotations), conjugate(rotations)))
    alpha, beta = config.spring.alpha, config.spring.beta
    s = (times - times[0]) / tau
    wanted = tau**2 * change - alpha * (beta * away - tau * speed)
    if config.smooth:
        wanted = wanted + alpha * beta * phase(s, config.end)[:, None] * away[:, :1]
    rows = force(config, s)
    gram = rows.T @ rows
    gram = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.einsum("kt,btj->bjk", torch.linalg.solve(gram, rows.T), wanted)
