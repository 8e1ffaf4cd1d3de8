"""OmniSAT's tokenizer: B-spline control points make every length and rate the same, then residual books for each part
of the action, position, rotation, gripper (arXiv 2510.09667). Linear: no network between points and codes."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from volar.core.errors import ConfigError
from volar.nn.learned import CodeModel, LearnedTokenizer, Training
from volar.nn.quantize import Codebooks
from volar.nn.splines import basis_matrix, fit_matrix


class SplineQuantised(LearnedTokenizer):
    """ids ordered book by book, within a book by time, then by part; each part has books of its own."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """num_basis, degree, ridge: of the splines. gripper: dimensions with a spline of degree 0. parts: dimensions
        that share books, for example position and rotation; () is all but the grippers, then the grippers. points:
        control points per token. steps, batch: the moving averages see that many batches of chunks."""

        num_basis: int = 10
        degree: int = 4
        ridge: float = 1e-6
        gripper: tuple[int, ...] = ()
        parts: tuple[tuple[int, ...], ...] = ()
        points: int = 2
        books: int = 3
        codes: int = 256
        steps: int = 400
        batch: int = 512

    def __init__(self, config: Config, *, horizon: int, action_dim: int) -> None:
        self.grippers = tuple(sorted(dimension % action_dim for dimension in config.gripper))
        smooth = tuple(dimension for dimension in range(action_dim) if dimension not in self.grippers)
        self.parts = config.parts or tuple(part for part in (smooth, self.grippers) if part)
        if sorted(dimension for part in self.parts for dimension in part) != list(range(action_dim)):
            raise ConfigError(f"parts must name each of the {action_dim} dimensions once; got {config.parts}.")
        if config.num_basis <= config.degree or min(config.points, config.books) < 1 or config.codes < 2:
            raise ConfigError(f"Needs num_basis > degree, points and books >= 1, codes >= 2; got {config}.")
        self.config = config
        self.num_basis = min(config.num_basis, horizon)
        windows = -(-self.num_basis // config.points)
        book = torch.arange(config.books)[:, None, None].expand(-1, windows, -1)
        part = torch.arange(len(self.parts))
        base = (part * config.books + book).flatten() * config.codes
        super().__init__(
            horizon=horizon,
            action_dim=action_dim,
            training=Training(steps=config.steps, batch=config.batch),
            base=base,
            span=config.codes,
        )

    def build(self) -> CodeModel:
        return _Model(self.config, self.parts, self.grippers, self.horizon, self.num_basis)

    def resample(self, motion: Float[Tensor, "steps a"], steps: int) -> Float[Tensor, "after a"]:
        """The same motion at another number of steps, through its splines: brings a piece of any length or rate to
        `horizon` steps before `encode`, and a decoded chunk to the rate of the robot. ConfigError for another width."""
        if motion.ndim != 2 or motion.shape[1] != self.action_dim or not len(motion):
            raise ConfigError(f"Expected motion [steps {self.action_dim}], got {list(motion.shape)}.")
        before, config = len(motion), self.config
        grippers = torch.zeros(self.action_dim, dtype=torch.bool)
        grippers[list(self.grippers)] = True
        smooth, switching = (
            basis_matrix(steps, self.num_basis, degree)
            @ (fit_matrix(before, self.num_basis, degree, config.ridge) @ motion)
            for degree in (min(config.degree, self.num_basis - 1), 0)
        )
        return torch.where(grippers, switching, smooth)


class _Model(CodeModel):
    def __init__(
        self, config: SplineQuantised.Config, parts: tuple[tuple[int, ...], ...], grippers: tuple[int, ...],
        horizon: int, num_basis: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.points = config.points
        self.parts = parts
        self.num_basis = num_basis
        self.windows = -(-num_basis // config.points)
        degree = min(config.degree, num_basis - 1)
        self.switches = torch.tensor([dimension in grippers for part in parts for dimension in part])
        self.order = torch.tensor([dimension for part in parts for dimension in part])
        self.solve = [fit_matrix(horizon, num_basis, order, config.ridge) for order in (degree, 0)]
        self.basis = [basis_matrix(horizon, num_basis, order) for order in (degree, 0)]
        self.books = nn.ModuleList(
            Codebooks(books=config.books, codes=config.codes, width=config.points * len(part)) for part in parts
        )

    def loss(self, unit: Float[Tensor, "n h a"], generator: torch.Generator) -> Float[Tensor, ""]:
        """Nothing to descend: the codes move by averaging."""
        for books, vectors in zip(self._codebooks, self._vectors(unit), strict=True):
            books.learn(vectors, generator)
        return torch.zeros(())

    def codes(self, unit: Float[Tensor, "n h a"]) -> Int[Tensor, "n s"]:
        pairs = zip(self._codebooks, self._vectors(unit), strict=True)
        ids = [rearrange(books.quantise(vectors).ids, "(n w) k -> n k w", w=self.windows) for books, vectors in pairs]
        return rearrange(ids, "g n k w -> n (k w g)")

    def chunks(self, codes: Int[Tensor, "n s"], known: Bool[Tensor, "n s"]) -> Float[Tensor, "n h a"]:
        shape = {"w": self.windows, "g": len(self.parts)}
        ids = rearrange(codes, "n (k w g) -> g (n w) k", **shape)
        certain = rearrange(known, "n (k w g) -> g (n w) k", **shape).clone()
        certain[:, :, 0] = True  # without its first code a window is that of the median chunk
        points = [
            rearrange(books.values(part, sure), "(n w) (c a) -> n (w c) a", w=self.windows, c=self.points)
            for books, part, sure in zip(self._codebooks, ids, certain, strict=True)
        ]
        joined = torch.cat(points, dim=-1)[:, : self.num_basis]
        smooth, steps = (torch.einsum("hk,nka->nha", basis, joined) for basis in self.basis)
        return torch.where(self.switches, steps, smooth)[..., self.order.argsort()]

    @property
    def _codebooks(self) -> list[Codebooks]:
        return [books for books in self.books if isinstance(books, Codebooks)]

    def _vectors(self, unit: Float[Tensor, "n h a"]) -> list[Tensor]:
        """Per part the control points of each window of each chunk, [n*windows points*dimensions]."""
        smooth, steps = (torch.einsum("kh,nha->nka", solve, unit[..., self.order]) for solve in self.solve)
        points = torch.where(self.switches, steps, smooth)
        missing = self.windows * self.points - self.num_basis
        padded = torch.cat([points, points[:, -1:].expand(-1, missing, -1)], dim=1)
        split = padded.split([len(part) for part in self.parts], dim=-1)
        return [rearrange(part, "n (w c) a -> (n w) (c a)", w=self.windows) for part in split]
