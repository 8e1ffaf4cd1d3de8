"""Ordered tokens without a codebook: finite scalar quantisation with nested dropout, so that every prefix decodes and
more tokens only refine (OAT, arXiv 2602.04215). A perceptron on whole chunks takes the place of OAT's transformer."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from volar.core.errors import ConfigError
from volar.nn.learned import CodeModel, LearnedTokenizer, Training, mlp
from volar.nn.quantize import FiniteScalar as Scalars


class FiniteScalar(LearnedTokenizer):
    """Every sequence of ids is valid; the first tokens hold the coarse shape."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """tokens: per chunk. levels: per number of a token; their product is the vocabulary. nested_dropout: train
        with prefixes of 1, 2, 4, ... tokens; False spreads the information evenly, finer in full, useless in part."""

        tokens: int = 8
        levels: tuple[int, ...] = (8, 5, 5, 5)
        hidden: int = 256
        nested_dropout: bool = True
        steps: int = 3000
        batch: int = 256
        learning_rate: float = 1e-3

    def __init__(self, config: Config, *, horizon: int, action_dim: int) -> None:
        if config.tokens < 1 or not config.levels or min(config.levels) < 2:
            raise ConfigError(f"Needs tokens >= 1 and levels of at least 2; got {config.tokens} and {config.levels}.")
        super().__init__(
            horizon=horizon,
            action_dim=action_dim,
            training=Training(steps=config.steps, batch=config.batch, learning_rate=config.learning_rate),
            base=torch.zeros(config.tokens, dtype=torch.long),
            span=math.prod(config.levels),
        )
        self.config = config

    def build(self) -> CodeModel:
        return _Model(self.config, self.horizon, self.action_dim)


class _Model(CodeModel):
    def __init__(self, config: FiniteScalar.Config, horizon: int, action_dim: int) -> None:
        super().__init__()
        self.config = config
        self.shape = (horizon, action_dim)
        self.latent = (config.tokens, len(config.levels))
        numbers = horizon * action_dim
        self.encoder = mlp(numbers, config.hidden, config.hidden, math.prod(self.latent))
        self.scalars = Scalars(config.levels)
        self.absent = nn.Parameter(torch.zeros(self.latent))
        self.decoder = mlp(math.prod(self.latent), config.hidden, config.hidden, numbers)
        self.keeps = [2**power for power in range(config.tokens.bit_length()) if 2**power < config.tokens]

    def loss(self, unit: Float[Tensor, "n h a"], generator: torch.Generator) -> Float[Tensor, ""]:
        values = self.scalars(self.encoder(unit.flatten(1)).unflatten(1, self.latent)).values
        known = torch.ones(values.shape[:2], dtype=torch.bool)
        if self.config.nested_dropout:
            keeps = torch.tensor([*self.keeps, self.config.tokens])
            keep = keeps[torch.randint(len(keeps), (len(unit),), generator=generator)]
            known = torch.arange(self.config.tokens) < keep[:, None]
        return F.mse_loss(self._chunks(values, known), unit)

    def codes(self, unit: Float[Tensor, "n h a"]) -> Int[Tensor, "n s"]:
        return self.scalars(self.encoder(unit.flatten(1)).unflatten(1, self.latent)).ids

    def chunks(self, codes: Int[Tensor, "n s"], known: Bool[Tensor, "n s"]) -> Float[Tensor, "n h a"]:
        return self._chunks(self.scalars.values(codes), known)

    def _chunks(self, values: Float[Tensor, "n s l"], known: Bool[Tensor, "n s"]) -> Float[Tensor, "n h a"]:
        seen = torch.where(known[..., None], values, self.absent)
        return self.decoder(seen.flatten(1)).unflatten(1, self.shape)
