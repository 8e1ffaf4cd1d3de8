"""BEAST: the control points of B-splines fitted to a chunk by least squares, one token each (arXiv 2506.06072).
Written from the equations. Also gives and takes the continuous control points, for regression and flow decoders."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import Tokenizer
from volar.nn.bounds import Bounds, to_grid
from volar.nn.splines import basis_matrix, fit_matrix, fixed_start_matrix


@dataclass(frozen=True)
class _Fit:
    actions: Bounds
    points: Bounds  # of the n*a control points
    fill: Tensor  # [n*a] ids of the median chunk


class Beast(Tokenizer):
    """ids[point * action_dim + dimension]; the first point is where the chunk starts, so `decode(tokens, start)` joins
    it to the last executed action with no jump at all."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """num_basis: control points per dimension (at most one per step). degree: of the spline, below num_basis.
        bins: levels per control point. gripper: dimensions that switch; they get a spline of degree 0, piecewise
        constant, without overshoot. fixed_start: the first point is the first action itself and the others are fitted
        to the rest, as is right when `decode` gets a start. ridge: of the least squares."""

        num_basis: int = 10
        degree: int = 4
        bins: int = 256
        gripper: tuple[int, ...] = ()
        fixed_start: bool = False
        ridge: float = 1e-6

    def __init__(self, config: Config, *, horizon: int, action_dim: int) -> None:
        super().__init__(horizon=horizon, action_dim=action_dim)
        if config.num_basis <= config.degree or config.degree < 0 or config.bins < 2:
            raise ConfigError(
                f"Needs num_basis > degree >= 0 and bins >= 2; got {config.num_basis}, {config.degree}, {config.bins}."
            )
        for dimension in config.gripper:
            if not -action_dim <= dimension < action_dim:
                raise ConfigError(f"gripper names dimension {dimension}, but actions have {action_dim} dimensions.")
        self.config = config
        self.num_basis = min(config.num_basis, horizon)
        grippers = {dimension % action_dim for dimension in config.gripper}
        self._switches = torch.tensor([dimension in grippers for dimension in range(action_dim)])
        self._fit: _Fit | None = None
        shape = (horizon, self.num_basis, min(config.degree, self.num_basis - 1))
        solve = fixed_start_matrix if config.fixed_start else fit_matrix
        self._basis = basis_matrix(*shape)
        self._solve = solve(*shape, config.ridge)
        self._switch_basis = basis_matrix(horizon, self.num_basis, 0)
        self._switch_solve = fit_matrix(horizon, self.num_basis, 0, 0.0)

    @property
    def vocabulary(self) -> int:
        return self.config.bins

    @property
    def length(self) -> int:
        return self.num_basis * self.action_dim

    def control_points(self, chunks: Float[Tensor, "n h a"]) -> Float[Tensor, "n points a"]:
        """Least squares per dimension, for decoders that predict continuous points. Needs no fit."""
        smooth = torch.einsum("kh,nha->nka", self._solve, chunks)
        if not self.config.gripper:
            return smooth
        return torch.where(self._switches, torch.einsum("kh,nha->nka", self._switch_solve, chunks), smooth)

    def curve(
        self, points: Float[Tensor, "n points a"], start: Float[Tensor, "n a"] | None = None
    ) -> Float[Tensor, "n h a"]:
        """The chunk of these control points. start: the last executed action; the curve begins exactly there, except
        in gripper dimensions, which may switch between chunks."""
        if start is not None:
            points = points.clone()
            points[:, 0] = torch.where(self._switches, points[:, 0], start)
        smooth = torch.einsum("hk,nka->nha", self._basis, points)
        if not self.config.gripper:
            return smooth
        return torch.where(self._switches, torch.einsum("hk,nka->nha", self._switch_basis, points), smooth)

    def fit(self, chunks: Float[Tensor, "n h a"], *, generator: torch.Generator | None = None) -> None:
        chunks = self.checked(chunks)
        points = self.control_points(chunks).flatten(1)[:, None]
        bounds = Bounds.of(points, quantile=0.0)
        fill = self._levels(bounds.unit(points.median(dim=0, keepdim=True).values).values)[0]
        self._fit = _Fit(actions=Bounds.of(chunks, quantile=0.0), points=bounds, fill=fill)

    def encode(self, chunks: Float[Tensor, "n h a"]) -> list[list[int]]:
        fit = self.fitted(self._fit)
        chunks = self.checked(chunks)
        inside = fit.actions.unit(chunks)
        points = fit.points.unit(self.control_points(fit.actions.action(inside.values)).flatten(1)[:, None])
        self.saturated += inside.count + points.count
        return self._levels(points.values).tolist()

    def decode(self, tokens: list[list[int]], start: Float[Tensor, "n a"] | None = None) -> Float[Tensor, "n h a"]:
        """start: see `curve`."""
        fit = self.fitted(self._fit)
        grid = to_grid(tokens, fit.fill, self.vocabulary)
        self.invalid_decodes += grid.invalid
        unit = grid.ids[:, None].float() * (2 / (self.config.bins - 1)) - 1
        points = fit.points.action(unit).reshape(-1, self.num_basis, self.action_dim)
        chunks = fit.actions.clamp(self.curve(points, start))
        if start is not None:  # also where the robot stands outside of what the fit saw
            chunks[:, 0] = torch.where(self._switches, chunks[:, 0], start)
        return chunks

    def state(self) -> dict[str, object]:
        fit = self.fitted(self._fit)
        return {"actions": fit.actions.state(), "points": fit.points.state(), "fill": fit.fill.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._fit = _Fit(
            actions=Bounds.from_state(state["actions"]),
            points=Bounds.from_state(state["points"]),
            fill=torch.tensor(state["fill"]),
        )

    def _levels(self, unit: Float[Tensor, "n 1 s"]) -> Tensor:
        return ((unit[:, 0] + 1) * ((self.config.bins - 1) / 2)).round().long()
