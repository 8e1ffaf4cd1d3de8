"""Denoising diffusion over chunks (Diffusion Policy, arXiv 2303.04137; DDPM arXiv 2006.11239): the classic baseline.

The context is read once; every step back from noise to data is one evaluation.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from volar.core.errors import ConfigError, unknown_name
from volar.core.model import UNLIMITED, Budget, Context, Field, Sample, masked_mean
from volar.nn.budget import Metered
from volar.nn.denoise import TimedDecoder
from volar.nn.diffusion import cosine_signal, diffuse, step_back, trailing_levels


class Diffusion(TimedDecoder):
    """Generative. The field is the noise in a chunk or the clean chunk, as `Config.predicts` says."""

    signal: Tensor
    largest: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """levels: of noise, trained on. steps: from noise to data, at most `levels`; spread: 0 steps as DDIM does, 1
        adds noise as DDPM does; both can be changed after training. predicts: what the network gives; "noise", as in
        Diffusion Policy, learns far more slowly here than "actions", as in RDT-1B (arXiv 2410.07864), since the first
        step multiplies its error by a thousand. clip: keep the estimate of the clean chunk within the largest actions
        learned from; with "noise" it is what keeps robots safe."""

        levels: int = 100
        steps: int = 10
        spread: float = 0.0
        predicts: Literal["actions", "noise"] = "actions"
        clip: bool = True

        def __post_init__(self) -> None:
            if not 1 <= self.steps <= self.levels:
                raise ConfigError(f"Diffusion: steps must be from 1 to levels={self.levels}, got {self.steps}.")
            if not 0 <= self.spread <= 1:
                raise ConfigError(f"Diffusion: spread must be from 0 (DDIM) to 1 (DDPM), got {self.spread}.")
            if self.predicts not in ("actions", "noise"):
                raise unknown_name("prediction of diffusion (predicts=)", self.predicts, ("actions", "noise"))

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int) -> None:
        super().__init__(width=width, horizon=horizon, action_dim=action_dim)
        self.config = config
        self.register_buffer("signal", cosine_signal(config.levels).float(), persistent=False)
        # Actions may be normalised to any range; part of the checkpoint.
        self.register_buffer("largest", torch.ones(action_dim))

    @property
    def meaning(self) -> str:
        return f"{self.config.predicts} predicted at {self.config.levels} levels of the cosine schedule"

    def loss(
        self, context: Context, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"],
        *, generator: torch.Generator | None = None,
    ) -> Float[Tensor, " b"]:  # fmt: skip
        if self.training:
            self.largest.copy_(torch.maximum(self.largest, actions.detach().abs().amax((0, 1))))
        levels = self.config.levels
        level = torch.randint(levels, (len(actions),), generator=generator, device=actions.device)
        noise = torch.randn(actions.shape, generator=generator, device=actions.device)
        predicted = self.field(context, diffuse(actions, noise, self.signal[level]), (level + 1) / levels)
        target = noise if self.config.predicts == "noise" else actions
        return masked_mean((predicted - target).square().mean(-1), valid)

    def solve(
        self, field: Field, *, rows: int, device: torch.device, generator: torch.Generator | None = None,
        budget: Budget = UNLIMITED,
    ) -> Sample:  # fmt: skip
        """A limited budget takes the place of `Config.steps`, up to one step for every level; seconds are turned into
        steps once the first evaluation was timed. Where time runs out, the last estimate of the clean chunk is it."""
        config, signal = self.config, self.signal.tolist()
        meter = Metered(field, budget, device)
        chunks = torch.randn((rows, *self.shape), generator=generator, device=device)
        ones = torch.ones(rows, device=device)
        predicted, left = meter(chunks, ones), meter.left()
        steps = config.steps if left is None else min(left + 1, config.levels)
        visited = trailing_levels(config.levels, steps)
        estimate = self._estimate(chunks, predicted, signal[visited[0]])
        for level, before in pairwise(visited):
            if meter.left() == 0:
                break
            fresh = torch.randn(chunks.shape, generator=generator, device=device)
            chunks = step_back(
                chunks, estimate, signal=signal[level], before=signal[before], spread=config.spread, fresh=fresh
            )
            predicted = meter(chunks, (before + 1) / config.levels * ones)
            estimate = self._estimate(chunks, predicted, signal[before])
        return Sample.after(meter.evaluations, estimate)

    def _estimate(
        self, chunks: Float[Tensor, "b h a"], predicted: Float[Tensor, "b h a"], signal: float
    ) -> Float[Tensor, "b h a"]:
        """The clean chunk, from the network's prediction at a level that keeps `signal`."""
        clean = predicted
        if self.config.predicts == "noise":
            clean = (chunks - (1 - signal) ** 0.5 * predicted) / signal**0.5
        return clean.clamp(-self.largest, self.largest) if self.config.clip else clean
