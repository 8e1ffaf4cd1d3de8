"""Probabilistic movement primitives (Paraschos et al. 2013): a Gaussian over weights is one over trajectories, which
can be conditioned on via points and multiplied. Batched: leading axes b of different primitives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from volar.core.errors import ConfigError

SHRINKAGE = 1e-6  # added to the variances of weights, so that few demonstrations give a proper Gaussian


@dataclass(frozen=True, kw_only=True)
class ProMP:
    """mean: of the weights. covariance: of the same, dimension by dimension (m = d * k)."""

    mean: Float[Tensor, "*b d k"]
    covariance: Float[Tensor, "*b m m"]


@dataclass(frozen=True, kw_only=True)
class Moments:
    """At each time: mean and covariance over the dimensions of the position."""

    mean: Float[Tensor, "*b t d"]
    covariance: Float[Tensor, "*b t d d"]


def basis(s: Float[Tensor, " t"], weights: int, *, overlap: float = 0.7) -> Float[Tensor, "t k"]:
    """Normalised Gaussians over s = time / duration; each falls to `overlap` at a distance of 1 / (2 k)."""
    centres = torch.linspace(0, 1, weights, dtype=s.dtype)
    width = -math.log(overlap) * (2 * weights) ** 2
    return torch.softmax(-width * (s[:, None] - centres) ** 2, dim=-1)


def promp(
    positions: Float[Tensor, "n t d"], s: Float[Tensor, " t"], *, weights: int = 10, ridge: float = 1e-8
) -> ProMP:
    """The Gaussian of the weights that fit each demonstration best. ConfigError for fewer than two demonstrations."""
    if len(positions) < 2:
        raise ConfigError(f"A distribution needs at least 2 demonstrations, got {len(positions)}.")
    rows = basis(s, weights)
    gram = rows.T @ rows + ridge * torch.eye(weights, dtype=rows.dtype)
    fits = torch.einsum("kt,ntd->ndk", torch.linalg.solve(gram, rows.T), positions)
    flat = fits.flatten(1)
    shrinkage = SHRINKAGE * torch.eye(flat.shape[1], dtype=flat.dtype)
    return ProMP(mean=fits.mean(0), covariance=torch.cov(flat.T) + shrinkage)


def moments(primitive: ProMP, s: Float[Tensor, " t"]) -> Moments:
    size, weights = primitive.mean.shape[-2:]
    rows = basis(s, weights)
    # One product with all pairs of basis functions; three factors at once would be multiplied at each time.
    pairs = (rows[:, :, None] * rows[:, None]).flatten(1)
    blocks = primitive.covariance.unflatten(-1, (size, weights)).unflatten(-3, (size, weights)).transpose(-3, -2)
    return Moments(
        mean=(primitive.mean @ rows.T).mT,
        covariance=(blocks.flatten(-2) @ pairs.T).movedim(-1, -3),
    )


def conditioned(primitive: ProMP, s: float, position: Float[Tensor, "*b d"], noise: Float[Tensor, "d d"]) -> ProMP:
    """Given that the motion passes `position` at s, up to Gaussian `noise` (a covariance; zeros: exactly). Raises
    ConfigError where nothing is left to be uncertain about at s and the noise is zero."""
    size, weights = primitive.mean.shape[-2:]
    (now,) = basis(torch.tensor([s], dtype=primitive.mean.dtype), weights)
    cross = primitive.covariance.unflatten(-1, (size, weights)) @ now
    spread = noise + cross.unflatten(-2, (size, weights)).mT @ now
    root = torch.linalg.cholesky_ex(spread)
    if bool(root.info.any()):
        raise ConfigError(
            f"Position and noise at s = {s:g} have no positive covariance: it is known there already, or the noise is "
            f"not a covariance. Give a noise above zero, such as 1e-6 times the identity."
        )
    half = torch.linalg.solve_triangular(root.L, cross.mT, upper=False)
    surprise = torch.linalg.solve_triangular(root.L, (position - primitive.mean @ now)[..., None], upper=False)
    mean = primitive.mean + (half.mT @ surprise).squeeze(-1).unflatten(-1, (size, weights))
    return ProMP(mean=mean, covariance=primitive.covariance - half.mT @ half)


def samples(
    primitive: ProMP, s: Float[Tensor, " t"], *, count: int, generator: torch.Generator
) -> Float[Tensor, "n t d"]:
    """Trajectories drawn from one primitive."""
    values, vectors = torch.linalg.eigh(primitive.covariance)
    noise = torch.randn(count, len(values), generator=generator, dtype=primitive.mean.dtype)
    drawn = primitive.mean + ((noise * values.clamp_min(0).sqrt()) @ vectors.T).unflatten(-1, primitive.mean.shape)
    return torch.einsum("tk,ndk->ntd", basis(s, primitive.mean.shape[-1]), drawn)


def blended(parts: Sequence[Moments], shares: Float[Tensor, "n t"]) -> Moments:
    """Product of the Gaussians at each time, each raised to its share (all 1: both must agree; 1 to 0 and 0 to 1: a
    passage from one to the other)."""
    precisions = [share[:, None, None] * part.covariance.inverse() for part, share in zip(parts, shares, strict=True)]
    covariance = torch.stack(precisions).sum(0).inverse()
    pulls = [precision @ part.mean[..., None] for precision, part in zip(precisions, parts, strict=True)]
    return Moments(mean=(covariance @ torch.stack(pulls).sum(0)).squeeze(-1), covariance=covariance)
