"""FAST: cosine transform over time, rounding, byte-pair coding with the low frequencies first (arXiv 2501.09747).
Unlike the published processor it never answers an undecodable sequence with zeros."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import Tokenizer
from volar.nn.bounds import Bounds, refuse_unknown_ids
from volar.nn.bpe import SYMBOL, PieceCoder
from volar.nn.dct import dct_matrix

TRAINING_CHUNKS = 20_000  # evenly spaced ones train the pieces; more changes them little and takes minutes


@dataclass(frozen=True)
class _Fit:
    bounds: Bounds
    lowest: int  # the rounded coefficient that is symbol 0
    fill: bytes  # the median of each symbol, as spelled by the coder
    coder: PieceCoder


class Fast(Tokenizer):
    """Sequences of varying length; a prefix holds the slow part of all dimensions. Rounding costs at most
    0.5 / scale root-mean-square per dimension, in units of half its quantile range."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """vocabulary: at most half of it are single coefficients. scale: coefficients per unit; larger is finer and
        longer. quantile: that share of values at each end of a dimension lies outside -1..1 (they are kept)."""

        vocabulary: int = 1024
        scale: float = 10.0
        quantile: float = 0.01

    def __init__(self, config: Config, *, horizon: int, action_dim: int) -> None:
        super().__init__(horizon=horizon, action_dim=action_dim)
        if config.vocabulary < 4 or config.scale <= 0:
            raise ConfigError(f"Needs vocabulary >= 4 and scale > 0; got {config.vocabulary} and {config.scale}.")
        self.config = config
        self._fit: _Fit | None = None
        transform = dct_matrix(horizon).numpy()
        self._forward = transform * np.float32(config.scale)
        self._inverse = transform.T / np.float32(config.scale)

    @property
    def vocabulary(self) -> int:
        return self.config.vocabulary

    def fit(self, chunks: Float[Tensor, "n h a"], *, generator: torch.Generator | None = None) -> None:
        chunks = self.checked(chunks)
        bounds = Bounds.of(chunks, quantile=self.config.quantile)
        rounded = self._rounded(bounds.unit(chunks).values)
        # Coefficients of freak chunks are not worth a symbol each: the alphabet may take half of the vocabulary.
        room = self.config.vocabulary // 2
        lowest = max(int(rounded.min()), min(-(room // 2), int(rounded.max()) - room + 1))
        highest = min(int(rounded.max()), lowest + room - 1)
        symbols = rounded.clip(lowest, highest) - lowest
        training = symbols[:: 1 + len(symbols) // TRAINING_CHUNKS]
        coder = PieceCoder.train(training.tolist(), num_symbols=highest - lowest + 1, vocabulary=self.config.vocabulary)
        fill = np.sort(symbols, axis=0)[(len(symbols) - 1) // 2].astype(SYMBOL).tobytes()
        self._fit = _Fit(bounds=bounds, lowest=lowest, fill=fill, coder=coder)

    def encode(self, chunks: Float[Tensor, "n h a"]) -> list[list[int]]:
        fit = self.fitted(self._fit)
        inside = fit.bounds.unit(self.checked(chunks))
        symbols = self._rounded(inside.values) - fit.lowest
        known = symbols.clip(0, fit.coder.num_symbols - 1)
        self.saturated += inside.count + int(np.count_nonzero(known != symbols))
        return fit.coder.encode(known)

    def decode(self, tokens: list[list[int]]) -> Float[Tensor, "n h a"]:
        fit = self.fitted(self._fit)
        try:
            spelled = [fit.coder.spell(sequence) for sequence in tokens]
        except KeyError:
            refuse_unknown_ids(np.fromiter(chain.from_iterable(tokens), dtype=np.int64), self.vocabulary)
            raise
        symbols = np.frombuffer(b"".join(self._whole(fit, spelled)), dtype=SYMBOL)
        coefficients = (symbols + fit.lowest).astype(np.float32).reshape(-1, self.horizon, self.action_dim)
        return fit.bounds.action(torch.from_numpy(_along_time(self._inverse, coefficients)))

    def state(self) -> dict[str, object]:
        fit = self.fitted(self._fit)
        return {
            "bounds": fit.bounds.state(),
            "lowest": fit.lowest,
            "fill": np.frombuffer(fit.fill, dtype=SYMBOL).tolist(),
            "num_symbols": fit.coder.num_symbols,
            "pieces": [list(piece) for piece in fit.coder.pieces],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        pieces = [tuple(piece) for piece in state["pieces"]]
        self._fit = _Fit(
            bounds=Bounds.from_state(state["bounds"]),
            lowest=state["lowest"],
            fill=np.array(state["fill"], dtype=SYMBOL).tobytes(),
            coder=PieceCoder(pieces, num_symbols=state["num_symbols"], vocabulary=self.config.vocabulary),
        )

    def _rounded(self, unit: Float[Tensor, "n h a"]) -> Int[np.ndarray, "n ha"]:
        coefficients = _along_time(self._forward, unit.numpy())
        return np.rint(coefficients).astype(np.int32).reshape(len(unit), self.horizon * self.action_dim)

    def _whole(self, fit: _Fit, spelled: list[bytes]) -> list[bytes]:
        """Missing symbols (the highest frequencies) become their median, further ones are dropped."""
        size = len(fit.fill)
        wrong = sum(len(symbols) != size for symbols in spelled)
        if not wrong:
            return spelled
        self.invalid_decodes += wrong
        return [symbols[:size] + fit.fill[len(symbols) :] for symbols in spelled]


def _along_time(matrix: Float[np.ndarray, "k h"], chunks: Float[np.ndarray, "n h a"]) -> Float[np.ndarray, "n k a"]:
    """matrix @ each chunk, as one product: numpy's batched one is slower."""
    count, steps, dims = chunks.shape
    product = matrix @ chunks.transpose(1, 0, 2).reshape(steps, count * dims)
    return np.ascontiguousarray(product.reshape(len(matrix), count, dims).transpose(1, 0, 2))
