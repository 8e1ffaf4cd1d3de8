"""One token per dimension and step: the bin that the number falls into (RT-1, arXiv 2212.06817; OpenVLA, arXiv
2406.09246). k bins have k centres here; OpenVLA's 256 edges leave 255."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import Tokenizer
from volar.nn.bounds import FEW_VALUES, Bounds, to_grid


@dataclass(frozen=True)
class _Fit:
    bounds: Bounds
    centres: Tensor  # [a k], ascending
    fill: Tensor  # [h*a] ids of the median chunk


class Bins(Tokenizer):
    """ids[step * action_dim + dimension] = bin. Decoding gives the bin's centre."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """bins: ids per dimension. spacing: equal widths, or equal numbers of training values. quantile: that share of
        the values at each end of a dimension is clipped, as OpenVLA does; 0 clips nothing that the fit saw."""

        bins: int = 256
        spacing: Literal["uniform", "quantile"] = "uniform"
        quantile: float = 0.01

    def __init__(self, config: Config, *, horizon: int, action_dim: int) -> None:
        super().__init__(horizon=horizon, action_dim=action_dim)
        if config.bins < 2 or not 0 <= config.quantile < 0.5:
            raise ConfigError(f"Needs bins >= 2 and 0 <= quantile < 0.5; got {config.bins} and {config.quantile}.")
        self.config = config
        self._fit: _Fit | None = None

    @property
    def vocabulary(self) -> int:
        return self.config.bins

    @property
    def length(self) -> int:
        return self.horizon * self.action_dim

    def fit(self, chunks: Float[Tensor, "n h a"], *, generator: torch.Generator | None = None) -> None:
        chunks = self.checked(chunks)
        bounds = Bounds.of(chunks, quantile=self.config.quantile, clip=True)
        values = chunks.reshape(-1, self.action_dim)
        place = (torch.arange(self.config.bins) + 0.5) / self.config.bins
        if self.config.spacing == "uniform":
            low, high = torch.from_numpy(bounds.low), torch.from_numpy(bounds.high)
            centres = low[:, None] + (high - low)[:, None] * place
        else:
            columns = np.quantile(values.double().numpy(), place.numpy(), axis=0)
            centres = torch.tensor(columns.T, dtype=torch.float32)
        for row, column in zip(centres, values.T, strict=True):
            levels = column.unique()
            if len(levels) <= min(FEW_VALUES, self.config.bins):  # a gripper comes back exactly
                row[:] = levels[(row[:, None] - levels).abs().argmin(dim=1)]
        fill = self._ids(chunks.median(dim=0).values[None], centres)[0].flatten()
        self._fit = _Fit(bounds=bounds, centres=centres, fill=fill)

    def encode(self, chunks: Float[Tensor, "n h a"]) -> list[list[int]]:
        fit = self.fitted(self._fit)
        inside = fit.bounds.unit(self.checked(chunks))
        self.saturated += inside.count
        return self._ids(fit.bounds.action(inside.values), fit.centres).flatten(1).tolist()

    def decode(self, tokens: list[list[int]]) -> Float[Tensor, "n h a"]:
        fit = self.fitted(self._fit)
        grid = to_grid(tokens, fit.fill, self.vocabulary)
        self.invalid_decodes += grid.invalid
        ids = grid.ids.reshape(-1, self.action_dim)
        values = fit.centres.T.gather(0, ids)
        return values.reshape(-1, self.horizon, self.action_dim)

    def state(self) -> dict[str, object]:
        fit = self.fitted(self._fit)
        return {"bounds": fit.bounds.state(), "centres": fit.centres.tolist(), "fill": fit.fill.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._fit = _Fit(
            bounds=Bounds.from_state(state["bounds"]),
            centres=torch.tensor(state["centres"], dtype=torch.float32),
            fill=torch.tensor(state["fill"]),
        )

    def _ids(self, chunks: Float[Tensor, "n h a"], centres: Float[Tensor, "a k"]) -> Tensor:
        """The nearest centre, [n h a]."""
        borders = (centres[:, 1:] + centres[:, :-1]) / 2
        columns = chunks.permute(2, 0, 1).reshape(self.action_dim, -1).contiguous()
        ids = torch.searchsorted(borders.contiguous(), columns)
        return ids.reshape(self.action_dim, -1, self.horizon).permute(1, 2, 0)
