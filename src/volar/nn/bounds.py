"""The range that a tokenizer saw in its fit: scaling by robust quantiles, saturation at its ends. Not a normaliser of
data sets: that is `volar.data.normalize`, which runs before and over all dimensions of a policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from volar.core.errors import ConfigError

FEW_VALUES = 16  # a dimension with no more distinct values (a gripper, a switch) is bounded by its extremes


@dataclass(frozen=True)
class Saturated:
    """values: `unit` numbers [n h a] inside the fit. count: how many numbers had to be clamped."""

    values: Float[Tensor, "n h a"]
    count: int


Numbers = Float[np.ndarray, " a"]


@dataclass(frozen=True)
class Bounds:
    """Per action dimension: unit = (action - centre) / half; low, high: the extremes that count as seen.

    Held in numpy, which takes a third of torch's time for a single chunk; this runs in every control step.
    """

    centre: Numbers
    half: Numbers
    low: Numbers
    high: Numbers

    @classmethod
    def of(cls, chunks: Float[Tensor, "n h a"], *, quantile: float, clip: bool = False) -> "Bounds":
        """The `quantile` and 1 - `quantile` of each dimension become -1 and 1 (0: its extremes).

        Dimensions of few distinct values take their extremes: the quantiles of a gripper that is open 99 % of the
        time coincide. A constant dimension has half = 1, so nothing divides by zero. clip: what lies outside the
        quantiles counts as outside the fit.
        """
        if not len(chunks):
            raise ConfigError("A tokenizer cannot be fitted on 0 chunks: pass at least one [horizon action_dim].")
        values = chunks.reshape(-1, chunks.shape[-1]).double().numpy()
        low, high = values.min(axis=0), values.max(axis=0)
        inner_low, inner_high = np.quantile(values, [quantile, 1 - quantile], axis=0)
        few = np.array([len(np.unique(column)) <= FEW_VALUES for column in values.T])
        few |= inner_high - inner_low < 1e-6 * np.maximum(high - low, 1e-12)
        inner_low, inner_high = np.where(few, low, inner_low), np.where(few, high, inner_high)
        half = (inner_high - inner_low) / 2
        half = np.where(half > 1e-8 * np.maximum(1.0, np.abs(low)), half, 1.0)
        ends = (inner_low, inner_high) if clip else (low, high)
        return cls(*(part.astype(np.float32) for part in [(inner_low + inner_high) / 2, half, *ends]))

    def unit(self, chunks: Float[Tensor, "n h a"]) -> Saturated:
        """Chunks in units of the fit, clamped to its ends."""
        values = chunks.numpy()
        inside = np.minimum(np.maximum(values, self.low), self.high)
        count = np.count_nonzero(np.abs(values - inside) > 1e-5 * self.half)
        return Saturated(values=torch.from_numpy((inside - self.centre) / self.half), count=int(count))

    def action(self, unit: Float[Tensor, "n h a"]) -> Float[Tensor, "n h a"]:
        """Back to actions, never outside the fit's ends."""
        return self.clamp(torch.from_numpy(unit.numpy() * self.half + self.centre))

    def clamp(self, chunks: Float[Tensor, "n h a"]) -> Float[Tensor, "n h a"]:
        """Actions brought inside the fit's ends."""
        return torch.from_numpy(np.minimum(np.maximum(chunks.numpy(), self.low), self.high))

    def state(self) -> dict[str, list[float]]:
        """Lists of float32 numbers; their shortest repr restores the same bits."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Bounds":
        return cls(**{name: np.array(value, dtype=np.float32) for name, value in state.items()})


@dataclass(frozen=True)
class Grid:
    """ids [n s]: sequences brought to length s. known: False where a token was missing or out of its place's range,
    and `ids` holds the fill. invalid: how many sequences were not as they should be."""

    ids: Int[Tensor, "n s"]
    known: Bool[Tensor, "n s"]
    invalid: int


def to_grid(
    tokens: list[list[int]], fill: Int[Tensor, " s"], vocabulary: int,
    *, base: Int[Tensor, " s"] | None = None, span: int = 0,
) -> Grid:  # fmt: skip
    """Sequences of a tokenizer of fixed length as one tensor: what is missing is taken from `fill`, what is too much
    is dropped. base, span: place i takes ids base[i]..base[i]+span-1 only, others count as missing. ConfigError for
    ids outside 0..vocabulary-1."""
    size = len(fill)
    wrong = torch.tensor([len(sequence) != size for sequence in tokens], dtype=torch.bool)
    if wrong.any():
        ids = fill.expand(len(tokens), size).clone()
        known = torch.zeros(len(tokens), size, dtype=torch.bool)
        for row, sequence in enumerate(tokens):
            keep = min(len(sequence), size)
            ids[row, :keep] = torch.tensor(sequence[:keep], dtype=torch.long)
            known[row, :keep] = True
    else:
        ids = torch.tensor(tokens, dtype=torch.long).reshape(len(tokens), size)
        known = torch.ones(len(tokens), size, dtype=torch.bool)
    refuse_unknown_ids(ids.numpy(), vocabulary)
    if base is not None:
        misplaced = (ids < base) | (ids >= base + span)
        ids, known = torch.where(misplaced, fill, ids), known & ~misplaced
        wrong |= misplaced.any(dim=1)
    return Grid(ids=ids, known=known, invalid=int(wrong.sum()))


def refuse_unknown_ids(ids: Int[np.ndarray, "..."], vocabulary: int) -> None:
    """ConfigError if an id lies outside 0..vocabulary-1."""
    if ids.size and (ids.min() < 0 or ids.max() >= vocabulary):
        wrong = ids[(ids < 0) | (ids >= vocabulary)][0]
        raise ConfigError(
            f"Token id {wrong} is outside 0..{vocabulary - 1}. Restrict the sampler to the tokenizer's vocabulary."
        )
