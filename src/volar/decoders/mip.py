"""Minimum iterative policy (Much Ado About Noising, arXiv 2512.01809): a guess from nothing, then one correction that
was trained on noisy demonstrations. Two evaluations and no randomness when acting; not a generative model."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import UNLIMITED, Budget, Context, Field, Sample, masked_mean
from volar.nn.budget import Metered
from volar.nn.denoise import TimedDecoder
from volar.nn.flow import interpolate


class Mip(TimedDecoder):
    """The control arm for every claim about generative decoders. The field is the action itself."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """noise: time at which the correction is trained and made, 1 - t* of the paper, whose time runs upwards."""

        noise: float = 0.1

        def __post_init__(self) -> None:
            if not 0 < self.noise < 1:
                raise ConfigError(f"Mip: noise must be between 0 and 1, both excluded, got {self.noise}.")

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int) -> None:
        super().__init__(width=width, horizon=horizon, action_dim=action_dim)
        self.config = config

    @property
    def meaning(self) -> str:
        return f"actions guessed at once, then corrected at noise {self.config.noise:g}"

    def loss(
        self, context: Context, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"],
        *, generator: torch.Generator | None = None,
    ) -> Float[Tensor, " b"]:  # fmt: skip
        """Squared error of the guess plus that of the correction, equally weighted as in the paper (its code weighs
        them by 1 / t*^2 and 1 / (1 - t*)^2)."""
        noise = torch.randn(actions.shape, generator=generator, device=actions.device)
        start = torch.ones(len(actions), device=actions.device)
        late = self.config.noise * start
        guess = self.field(context, torch.zeros_like(actions), start)
        corrected = self.field(context, interpolate(actions, noise, late), late)
        return masked_mean(((guess - actions).square() + (corrected - actions).square()).mean(-1), valid)

    def solve(
        self, field: Field, *, rows: int, device: torch.device, generator: torch.Generator | None = None,
        budget: Budget = UNLIMITED,
    ) -> Sample:  # fmt: skip
        """Two evaluations, whatever more the budget allows; the guess alone where it allows only one."""
        meter = Metered(field, budget, device)
        start = torch.ones(rows, device=device)
        chunks = meter(torch.zeros((rows, *self.shape), device=device), start)
        if meter.left() != 0:
            late = self.config.noise * start
            chunks = meter(interpolate(chunks, torch.zeros_like(chunks), late), late)
        return Sample.after(meter.evaluations, chunks)
