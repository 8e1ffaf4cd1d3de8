"""VQ-BeT's tokenizer: a whole chunk becomes one vector, coded by a few small residual books (arXiv 2403.03181). Coarse
by design: in VQ-BeT a continuous offset head adds the precision."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from volar.core.errors import ConfigError
from volar.nn.learned import CodeModel, LearnedTokenizer, Training, mlp
from volar.nn.quantize import Codebooks


class VectorQuantised(LearnedTokenizer):
    """ids[book] = book * codes + code; the first book holds the mode, later ones refine it."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The published sizes. commitment: weight of the pull of the latent vector towards its code."""

        books: int = 2
        codes: int = 16
        hidden: int = 128
        width: int = 512
        commitment: float = 5.0
        steps: int = 1500
        batch: int = 256
        learning_rate: float = 1e-3

    def __init__(self, config: Config, *, horizon: int, action_dim: int) -> None:
        if config.books < 1 or config.codes < 2:
            raise ConfigError(f"Needs books >= 1 and codes >= 2; got {config.books} and {config.codes}.")
        base = torch.arange(config.books) * config.codes
        super().__init__(
            horizon=horizon,
            action_dim=action_dim,
            training=Training(steps=config.steps, batch=config.batch, learning_rate=config.learning_rate),
            base=base,
            span=config.codes,
        )
        self.config = config

    def build(self) -> CodeModel:
        return _Model(self.config, self.horizon, self.action_dim)


class _Model(CodeModel):
    def __init__(self, config: VectorQuantised.Config, horizon: int, action_dim: int) -> None:
        super().__init__()
        self.commitment = config.commitment
        self.shape = (horizon, action_dim)
        numbers = horizon * action_dim
        self.encoder = mlp(numbers, config.hidden, config.hidden, config.width)
        self.books = Codebooks(books=config.books, codes=config.codes, width=config.width)
        self.decoder = mlp(config.width, config.hidden, config.hidden, numbers)

    def loss(self, unit: Float[Tensor, "n h a"], generator: torch.Generator) -> Float[Tensor, ""]:
        latent = self.encoder(unit.flatten(1))
        self.books.learn(latent, generator)
        coded = self.books.quantise(latent).values
        commitment = F.mse_loss(latent, coded)
        back = self.decoder(latent + (coded - latent).detach())
        return F.l1_loss(back, unit.flatten(1)) + self.commitment * commitment

    def codes(self, unit: Float[Tensor, "n h a"]) -> Int[Tensor, "n s"]:
        return self.books.quantise(self.encoder(unit.flatten(1))).ids

    def chunks(self, codes: Int[Tensor, "n s"], known: Bool[Tensor, "n s"]) -> Float[Tensor, "n h a"]:
        # Without its first code a chunk is the median one; without a later code it is only less fine.
        return self.decoder(self.books.values(codes, _or_first(known))).unflatten(1, self.shape)


def _or_first(known: Bool[Tensor, "n s"]) -> Bool[Tensor, "n s"]:
    known = known.clone()
    known[:, 0] = True
    return known
