"""Exact statistics of recorded numbers, and the map between robot units and the range a network likes.

Works on numpy arrays and torch tensors alike without importing torch. Not a streaming estimate: quantiles are those
of all rows, by linear interpolation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from jaxtyping import Float64, Shaped

from volar.core.errors import ConfigError, unknown_name

Mode = Literal["mean_std", "min_max", "quantile"]
NO_VARIATION, NOTHING = 2.5e-7, 1e-9  # two roundings of float32, of the largest number; and in any unit
ArrayOrTensor = TypeVar("ArrayOrTensor")


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """Per-dimension statistics [d] of `count` rows; `std` is the population's (division by count)."""

    count: int
    mean: Float64[np.ndarray, " d"]
    std: Float64[np.ndarray, " d"]
    min: Float64[np.ndarray, " d"]
    max: Float64[np.ndarray, " d"]
    q01: Float64[np.ndarray, " d"]
    q99: Float64[np.ndarray, " d"]

    @property
    def dim(self) -> int:
        return len(self.mean)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists; `from_json` gives back the same bits."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Statistics":
        known = {field.name for field in fields(cls)}
        if set(data) != known:
            raise ConfigError(f"Statistics need exactly the keys {sorted(known)}, got {sorted(data)}.")
        arrays = {name: np.asarray(data[name], dtype=np.float64) for name in known - {"count"}}
        return cls(count=int(data["count"]), **arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Statistics) and self.to_json() == other.to_json()


def exact_statistics(values: Shaped[np.ndarray, "n d"]) -> Statistics:
    """Statistics over the rows of `values`, computed in float64. Raises ConfigError for no rows or a non-finite one."""
    if len(values) == 0:
        raise ConfigError("Statistics of no rows are undefined; the data set is empty.")
    exact = np.asarray(values, dtype=np.float64)
    require_finite(exact, "Statistics")
    q01, q99 = np.quantile(exact, [0.01, 0.99], axis=0)
    return Statistics(
        count=len(exact), mean=exact.mean(0), std=exact.std(0), min=exact.min(0), max=exact.max(0), q01=q01, q99=q99
    )


class Normalizer:
    """Maps raw numbers to about [-1, 1] and back.

    mode "mean_std": zero mean, unit variance; "min_max": smallest to -1, largest to 1; "quantile": the 1 % and 99 %
    quantiles to -1 and 1, values outside are not clipped. A dimension that never varied, but for rounding of float32 or
    by less than 1e-9, maps to 0 and back to its constant; one whose two quantiles coincide although it varies falls
    back to its minimum and maximum.
    width: normalised numbers are continued with zeros up to it, and cut back; by default there are d of them.
    """

    def __init__(self, statistics: Statistics, mode: Mode, *, width: int | None = None) -> None:
        if mode not in get_args(Mode):
            raise unknown_name("normalisation mode", str(mode), get_args(Mode))
        self.statistics = statistics
        self.mode = mode
        self.width = statistics.dim if width is None else width
        if self.width < statistics.dim:
            raise ConfigError(f"{statistics.dim} dimensions do not fit into a width of {width}.")
        if mode == "mean_std":
            centre, scale = statistics.mean, statistics.std
        else:
            low, high = statistics.min, statistics.max
            if mode == "quantile":
                varies = statistics.q99 > statistics.q01
                low, high = np.where(varies, statistics.q01, low), np.where(varies, statistics.q99, high)
            centre, scale = (low + high) / 2, (high - low) / 2
        reach = np.maximum(np.abs(statistics.min), np.abs(statistics.max))
        # Rounding is no variation: blown up to unit variance it would drown everything that a sensor's noise touches.
        constant = statistics.max - statistics.min <= np.maximum(NO_VARIATION * reach, NOTHING)
        self._centre = np.where(constant, statistics.min, centre)
        self._scale = np.where(constant, 0.0, scale)
        self._inverse = np.divide(1.0, self._scale, out=np.zeros_like(self._scale), where=~constant)

    @property
    def degenerate(self) -> tuple[int, ...]:
        """Indices of the dimensions that never varied: nothing can be learnt or normalised there."""
        return tuple(np.flatnonzero(self._scale == 0).tolist())

    def normalize(self, values: ArrayOrTensor) -> ArrayOrTensor:
        """Raw [... d] to normalised [... width], same type and precision. ConfigError if a number is not finite."""
        self._require_width(values, self.statistics.dim)
        require_finite(values, "Normalizer")
        return padded((values - _like(self._centre, values)) * _like(self._inverse, values), self.width)  # type: ignore[operator]

    def denormalize(self, values: ArrayOrTensor) -> ArrayOrTensor:
        """Normalised [... width] to raw [... d]; what stands behind the d-th number is dropped. Non-finite numbers pass
        through, to be refused by `ActionSpec.clip`."""
        self._require_width(values, self.width)
        own = values[..., : self.statistics.dim]  # type: ignore[index]
        return own * _like(self._scale, own) + _like(self._centre, own)

    def _require_width(self, values: Any, width: int) -> None:
        if values.shape[-1] != width:
            raise ConfigError(f"The statistics describe {width} dimensions, the array has {values.shape[-1]}.")


def padded(values: ArrayOrTensor, width: int) -> ArrayOrTensor:
    """[... d] continued with zeros to [... width]; itself where d is the width."""
    dim = values.shape[-1]  # type: ignore[attr-defined]
    if dim == width:
        return values
    shape = (*values.shape[:-1], width)  # type: ignore[attr-defined]
    out: Any = np.zeros(shape, values.dtype) if isinstance(values, np.ndarray) else values.new_zeros(shape)  # type: ignore[attr-defined]
    out[..., :dim] = values
    return out


def _like(constant: np.ndarray, values: Any) -> Any:
    """`constant` in the array library, precision and device of `values`."""
    if isinstance(values, np.ndarray):
        return constant.astype(values.dtype) if values.dtype.kind == "f" else constant
    return values.new_tensor(constant.tolist())


def require_finite(values: Any, who: str) -> None:
    finite = np.isfinite(values) if isinstance(values, np.ndarray) else values.isfinite()
    if not bool(finite.all()):
        flat = np.asarray(finite.tolist()).reshape(-1, values.shape[-1])
        dimensions = np.flatnonzero(~flat.all(0)).tolist()
        raise ConfigError(
            f"{who}: non-finite numbers in dimension(s) {dimensions}; clean or drop the rows (first: "
            f"{int(np.flatnonzero(~flat.all(1))[0])}) before going on."
        )
