"""FASTer's tokenizer: patches over time and over groups of dimensions, a small transformer autoencoder, residual books,
and a loss in time and in frequency (arXiv 2512.04952). Smaller than the paper's: it is trained on one CPU thread."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from volar.core.errors import ConfigError
from volar.nn.dct import dct_matrix
from volar.nn.learned import CodeModel, LearnedTokenizer, Training
from volar.nn.quantize import Codebooks


class ResidualQuantised(LearnedTokenizer):
    """ids ordered book by book, within a book by time, then by group: a prefix is the whole chunk, coarsely."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """patch: steps per token. groups: dimensions that share a token, for example arm and gripper; () is one group
        of all. books, codes: the paper has 3 books of 4096 codes for a million chunks. dct_weight: of the loss in
        frequency, 0 leaves it out. commitment: as the paper."""

        patch: int = 8
        groups: tuple[tuple[int, ...], ...] = ()
        books: int = 3
        codes: int = 512
        width: int = 64
        depth: int = 1
        heads: int = 4
        dct_weight: float = 1.0
        commitment: float = 0.25
        steps: int = 1200
        batch: int = 128
        learning_rate: float = 2e-3

    def __init__(self, config: Config, *, horizon: int, action_dim: int) -> None:
        self.groups = config.groups or (tuple(range(action_dim)),)
        if sorted(dimension for group in self.groups for dimension in group) != list(range(action_dim)):
            raise ConfigError(f"groups must name each of the {action_dim} dimensions once; got {config.groups}.")
        if min(config.patch, config.books) < 1 or config.codes < 2:
            raise ConfigError(
                f"Needs patch >= 1, books >= 1, codes >= 2; got {config.patch}, {config.books}, {config.codes}."
            )
        self.config = config
        places = -(-horizon // config.patch) * len(self.groups)
        base = torch.arange(config.books).repeat_interleave(places) * config.codes
        super().__init__(
            horizon=horizon,
            action_dim=action_dim,
            training=Training(steps=config.steps, batch=config.batch, learning_rate=config.learning_rate),
            base=base,
            span=config.codes,
        )

    def build(self) -> CodeModel:
        return _Model(self.config, self.groups, self.horizon)


class _Model(CodeModel):
    def __init__(self, config: ResidualQuantised.Config, groups: tuple[tuple[int, ...], ...], horizon: int) -> None:
        super().__init__()
        self.config = config
        self.groups = groups
        self.horizon = horizon
        self.patches = -(-horizon // config.patch)
        width = config.width
        self.places = self.patches * len(groups)
        self.read = nn.ModuleList(nn.Linear(config.patch * len(group), width) for group in groups)
        self.write = nn.ModuleList(nn.Linear(width, config.patch * len(group)) for group in groups)
        self.place_in = nn.Parameter(0.02 * torch.randn(self.places, width))
        self.place_out = nn.Parameter(0.02 * torch.randn(self.places, width))
        self.encoder = _transformer(config)
        self.decoder = _transformer(config)
        self.books = Codebooks(books=config.books, codes=config.codes, width=width)

    def loss(self, unit: Float[Tensor, "n h a"], generator: torch.Generator) -> Float[Tensor, ""]:
        latent = self._latent(unit)
        self.books.learn(latent, generator)
        coded = self.books.quantise(latent).values
        back = self._chunks(latent + (coded - latent).detach())
        error = back - unit
        frequency = torch.einsum("kh,nha->nka", dct_matrix(self.horizon), error)
        distance = error.abs().mean() + self.config.dct_weight * frequency.abs().mean()
        return distance + self.config.commitment * F.mse_loss(latent, coded)

    def codes(self, unit: Float[Tensor, "n h a"]) -> Int[Tensor, "n s"]:
        ids = self.books.quantise(self._latent(unit)).ids
        return rearrange(ids, "(n p) k -> n (k p)", p=self.places)

    def chunks(self, codes: Int[Tensor, "n s"], known: Bool[Tensor, "n s"]) -> Float[Tensor, "n h a"]:
        ids = rearrange(codes, "n (k p) -> (n p) k", p=self.places)
        certain = rearrange(known, "n (k p) -> (n p) k", p=self.places).clone()
        certain[:, 0] = True  # without its first code a patch is that of the median chunk
        return self._chunks(self.books.values(ids, certain))

    def _latent(self, unit: Float[Tensor, "n h a"]) -> Float[Tensor, "np d"]:
        missing = self.patches * self.config.patch - self.horizon
        padded = torch.cat([unit, unit[:, -1:].expand(-1, missing, -1)], dim=1)
        tokens = [
            read(rearrange(padded[:, :, list(group)], "n (p h) a -> n p (h a)", p=self.patches))
            for read, group in zip(self.read, self.groups, strict=True)
        ]
        sequence = rearrange(tokens, "g n p d -> n (p g) d")
        return rearrange(self.encoder(sequence + self.place_in), "n p d -> (n p) d")

    def _chunks(self, latent: Float[Tensor, "np d"]) -> Float[Tensor, "n h a"]:
        sequence = rearrange(latent, "(n p) d -> n p d", p=self.places)
        tokens = rearrange(self.decoder(sequence + self.place_out), "n (p g) d -> g n p d", g=len(self.groups))
        order = [dimension for group in self.groups for dimension in group]
        parts = [
            rearrange(write(token), "n p (h a) -> n (p h) a", h=self.config.patch)
            for write, token in zip(self.write, tokens, strict=True)
        ]
        inverse = torch.tensor(order).argsort()
        return torch.cat(parts, dim=-1)[:, : self.horizon, inverse]


def _transformer(config: ResidualQuantised.Config) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        config.width, config.heads, 4 * config.width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)
