"""Actions as plain text: integers with spaces between them, for a language model's own vocabulary (VLA-0, arXiv
2510.13054). The ids here are characters; `render` and `parse` go to and from the text a language model reads."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import Tokenizer
from volar.nn.bounds import Bounds, refuse_unknown_ids

SPACE = 10  # ids 0..9 are the digits


@dataclass(frozen=True)
class _Fit:
    bounds: Bounds
    fill: list[int]  # the integers of the median chunk


class Text(Tokenizer):
    """Step after step, dimension after dimension; 0 is the lowest number of the fit, `resolution` the highest."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """resolution: the largest integer."""

        resolution: int = 1000

    def __init__(self, config: Config, *, horizon: int, action_dim: int) -> None:
        super().__init__(horizon=horizon, action_dim=action_dim)
        if config.resolution < 1:
            raise ConfigError(f"resolution is the largest integer and at least 1; got {config.resolution}.")
        self.config = config
        self._fit: _Fit | None = None
        self._spelling = [[*map(int, str(value)), SPACE] for value in range(config.resolution + 1)]

    @property
    def vocabulary(self) -> int:
        return SPACE + 1

    def fit(self, chunks: Float[Tensor, "n h a"], *, generator: torch.Generator | None = None) -> None:
        chunks = self.checked(chunks)
        bounds = Bounds.of(chunks, quantile=0.0)
        median = bounds.unit(chunks.median(dim=0).values[None]).values
        self._fit = _Fit(bounds=bounds, fill=self._integers(median)[0])

    def encode(self, chunks: Float[Tensor, "n h a"]) -> list[list[int]]:
        fit = self.fitted(self._fit)
        inside = fit.bounds.unit(self.checked(chunks))
        self.saturated += inside.count
        spelling = self._spelling
        rows = self._integers(inside.values)
        return [list(chain.from_iterable([spelling[value] for value in row]))[:-1] for row in rows]

    def decode(self, tokens: list[list[int]]) -> Float[Tensor, "n h a"]:
        fit = self.fitted(self._fit)
        refuse_unknown_ids(np.fromiter(chain.from_iterable(tokens), dtype=np.int64), self.vocabulary)
        rows = [self._read(self.render(sequence), fit.fill) for sequence in tokens]
        integers = torch.tensor(rows, dtype=torch.float32).reshape(-1, self.horizon, self.action_dim)
        return fit.bounds.action(integers * (2 / self.config.resolution) - 1)

    def render(self, tokens: list[int]) -> str:
        """The text of one sequence, for example "512 0 1000"."""
        return "".join(["0123456789 "[token] for token in tokens])

    def parse(self, text: str) -> list[int]:
        """The ids of what a language model wrote. Anything but digits separates numbers."""
        return [SPACE if character == " " else int(character) for character in " ".join(re.findall("[0-9]+", text))]

    def state(self) -> dict[str, object]:
        fit = self.fitted(self._fit)
        return {"bounds": fit.bounds.state(), "fill": fit.fill}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._fit = _Fit(bounds=Bounds.from_state(state["bounds"]), fill=list(state["fill"]))

    def _integers(self, unit: Float[Tensor, "n h a"]) -> list[list[int]]:
        return ((unit.flatten(1) + 1) * (self.config.resolution / 2)).round().long().tolist()

    def _read(self, text: str, fill: list[int]) -> list[int]:
        """Numbers above the resolution become it; missing ones are those of the median chunk, further ones dropped."""
        # Nine digits are more than any resolution needs and cannot overflow a float.
        written = [int(word[:9]) for word in text.split()]
        top = self.config.resolution
        if len(written) != len(fill) or max(written) > top:
            self.invalid_decodes += 1
            written = [min(value, top) for value in written[: len(fill)]] + fill[len(written) :]
        return written
