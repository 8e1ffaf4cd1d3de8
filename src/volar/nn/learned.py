"""The part that learned tokenizers share: a network between chunks and codes is trained once, on one thread, in
seconds to minutes, and travels as text. Which network and which loss is the tokenizer's own."""

import base64
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from volar.core.errors import ConfigError
from volar.core.model import Tokenizer
from volar.nn.bounds import Bounds, to_grid

ENCODE_BATCH = 2048


@dataclass(frozen=True, kw_only=True)
class Training:
    """AdamW with cosine decay. batch: chunks per step, drawn with replacement."""

    steps: int
    batch: int
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4


class CodeModel(nn.Module, ABC):
    """Chunks in units of the fit <-> codes, one per place of the sequence, each counted from 0."""

    @abstractmethod
    def loss(self, unit: Float[Tensor, "n h a"], generator: torch.Generator) -> Float[Tensor, ""]:
        """Of one training batch. May move codebooks as a side effect."""

    @abstractmethod
    def codes(self, unit: Float[Tensor, "n h a"]) -> Int[Tensor, "n s"]: ...

    @abstractmethod
    def chunks(self, codes: Int[Tensor, "n s"], known: Bool[Tensor, "n s"]) -> Float[Tensor, "n h a"]:
        """known: False where a code is a guess from the median chunk, which the model may rather ignore."""


@dataclass(frozen=True)
class _Fit:
    bounds: Bounds
    model: CodeModel
    fill: Tensor  # [s] ids of the median chunk


class LearnedTokenizer(Tokenizer):
    """Fixed length: place i takes the ids base[i]..base[i]+span-1."""

    def __init__(
        self, *, horizon: int, action_dim: int, training: Training, base: Int[Tensor, " s"], span: int
    ) -> None:
        super().__init__(horizon=horizon, action_dim=action_dim)
        if training.steps < 1 or training.batch < 1:
            raise ConfigError(f"Needs steps >= 1 and batch >= 1; got {training.steps} and {training.batch}.")
        self.training = training
        self.base = base
        self.span = span
        self._fit: _Fit | None = None

    @abstractmethod
    def build(self) -> CodeModel:
        """An untrained model."""

    @property
    def vocabulary(self) -> int:
        return int(self.base.max()) + self.span

    @property
    def length(self) -> int:
        return len(self.base)

    def fit(self, chunks: Float[Tensor, "n h a"], *, generator: torch.Generator | None = None) -> None:
        """Reproducible from the generator; None is a generator with seed 0."""
        chunks = self.checked(chunks)
        generator = generator or torch.Generator().manual_seed(0)
        bounds = Bounds.of(chunks, quantile=0.01)
        unit = bounds.unit(chunks).values
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from the global generator
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            model = self.build()
        with torch.enable_grad():
            _train(model, unit, self.training, generator)
        median = bounds.unit(chunks.median(dim=0).values[None]).values
        with torch.no_grad():
            fill = model.codes(median)[0] + self.base
        self._fit = _Fit(bounds=bounds, model=model, fill=fill)

    @torch.no_grad()
    def encode(self, chunks: Float[Tensor, "n h a"]) -> list[list[int]]:
        fit = self.fitted(self._fit)
        inside = fit.bounds.unit(self.checked(chunks))
        self.saturated += inside.count
        parts = [fit.model.codes(part) + self.base for part in inside.values.split(ENCODE_BATCH) if len(part)]
        return [row for part in parts for row in part.tolist()]

    @torch.no_grad()
    def decode(self, tokens: list[list[int]]) -> Float[Tensor, "n h a"]:
        fit = self.fitted(self._fit)
        grid = to_grid(tokens, fit.fill, self.vocabulary, base=self.base, span=self.span)
        self.invalid_decodes += grid.invalid
        return fit.bounds.action(fit.model.chunks(grid.ids - self.base, grid.known))

    def state(self) -> dict[str, object]:
        fit = self.fitted(self._fit)
        weights = {name: _packed(tensor) for name, tensor in fit.model.state_dict().items()}
        return {"bounds": fit.bounds.state(), "fill": fit.fill.tolist(), "weights": weights}

    def restore(self, state: Mapping[str, Any]) -> None:
        with torch.random.fork_rng(devices=[]):
            model = self.build()
        model.load_state_dict({name: _unpacked(packed) for name, packed in state["weights"].items()})
        model.eval().requires_grad_(False)
        self._fit = _Fit(bounds=Bounds.from_state(state["bounds"]), model=model, fill=torch.tensor(state["fill"]))


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with GELU between them."""
    layers: list[nn.Module] = []
    for narrow, wide in pairwise(widths):
        layers += [nn.Linear(narrow, wide), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def _train(model: CodeModel, unit: Float[Tensor, "n h a"], training: Training, generator: torch.Generator) -> None:
    def batch() -> Tensor:
        return unit[torch.randint(len(unit), (training.batch,), generator=generator)]

    parameters = list(model.parameters())
    if not parameters:  # nothing but codebooks, which `loss` moves
        for _ in range(training.steps):
            model.loss(batch(), generator)
        return
    optimizer = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    for _ in range(training.steps):
        optimizer.zero_grad()
        model.loss(batch(), generator).backward()
        optimizer.step()
        schedule.step()
    model.eval().requires_grad_(False)


def _packed(tensor: Tensor) -> dict[str, object]:
    """float32, little-endian, as base64: JSON numbers would be four times as long."""
    data = tensor.detach().numpy().astype("<f4").tobytes()
    return {"shape": list(tensor.shape), "float32": base64.b64encode(data).decode("ascii")}


def _unpacked(packed: Mapping[str, Any]) -> Tensor:
    data = np.frombuffer(base64.b64decode(packed["float32"]), dtype="<f4").astype(np.float32)
    return torch.from_numpy(data).reshape(packed["shape"])
