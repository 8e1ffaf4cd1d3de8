"""Clamped uniform B-splines on [0, 1]: basis matrices and their least-squares inverses. Written from the recursion of
Cox and de Boor and from BEAST's equations (arXiv 2506.06072)."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor


@cache
def basis_matrix(steps: int, num_basis: int, degree: int) -> Float[Tensor, "steps num_basis"]:
    """Values of the basis functions at `steps` equal times from 0 to 1: curve = matrix @ control points.

    Knots: degree times 0, then num_basis - degree + 1 equal ones, then degree times 1; so the curve starts at the
    first control point and ends at the last, and rows sum to 1. Needs num_basis > degree. Shared: do not write to it.
    """
    assert num_basis > degree >= 0 and steps > 0
    time = torch.linspace(0, 1, steps, dtype=torch.float64)
    inner = torch.linspace(0, 1, num_basis - degree + 1, dtype=torch.float64)
    knots = torch.cat([torch.zeros(degree, dtype=torch.float64), inner, torch.ones(degree, dtype=torch.float64)])
    # The last non-empty interval is closed on the right, else nothing would cover time 1.
    interval = torch.clamp(torch.searchsorted(knots, time, right=True) - 1, max=num_basis - 1)
    basis = torch.zeros(steps, len(knots) - 1, dtype=torch.float64)
    basis[torch.arange(steps), interval] = 1.0
    for order in range(1, degree + 1):
        width = basis.shape[1] - 1
        rise = knots[order : order + width] - knots[:width]
        fall = knots[order + 1 : order + 1 + width] - knots[1 : 1 + width]
        left = torch.where(rise > 0, (time[:, None] - knots[:width]) / rise, 0.0)
        right = torch.where(fall > 0, (knots[order + 1 : order + 1 + width] - time[:, None]) / fall, 0.0)
        basis = left * basis[:, :width] + right * basis[:, 1 : 1 + width]
    return basis.float()


@cache
def fit_matrix(steps: int, num_basis: int, degree: int, ridge: float) -> Float[Tensor, "num_basis steps"]:
    """(Phi^T Phi + ridge I)^-1 Phi^T: control points = matrix @ samples. Shared: do not write to it."""
    basis = basis_matrix(steps, num_basis, degree).double()
    gram = basis.T @ basis + ridge * torch.eye(num_basis, dtype=torch.float64)
    return torch.linalg.solve(gram, basis.T).float()


@cache
def fixed_start_matrix(steps: int, num_basis: int, degree: int, ridge: float) -> Float[Tensor, "num_basis steps"]:
    """As `fit_matrix`, but the first control point is the first sample and the others are fitted to what it leaves.

    Overwriting the first point after a free fit (as BEAST does) would bend the start of the curve.
    """
    first = torch.zeros(1, steps, dtype=torch.float64)
    first[0, 0] = 1.0
    if num_basis == 1:
        return first.float()
    basis = basis_matrix(steps, num_basis, degree).double()
    rest = basis[:, 1:]
    gram = rest.T @ rest + ridge * torch.eye(num_basis - 1, dtype=torch.float64)
    remainder = torch.eye(steps, dtype=torch.float64) - basis[:, :1] @ first
    return torch.cat([first, torch.linalg.solve(gram, rest.T @ remainder)]).float()
