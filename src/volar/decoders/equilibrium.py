"""Equilibrium matching over chunks (pi0-EqM, arXiv 2605.23128; EqM, arXiv 2510.02300): learn a field without time that
vanishes at the data, and go down it until it is small. Not a flow: nothing says when the end is reached but the field.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from volar.core.errors import ConfigError
from volar.core.model import Context
from volar.nn.equilibrium import RestingDecoder, Settings
from volar.nn.transformer import full_mask

Energy = Literal["none", "dot", "norm"]


class Equilibrium(RestingDecoder):
    """Generative. Spends as many evaluations as a chunk needs and tells how strange it is by the field that is left."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Settings):
        """energy: "none" learns the field itself; "dot" and "norm" learn a scalar, chunk . output and |output|^2 / 2,
        whose gradient it is, at about twice the cost. See `Settings` for the rest."""

        energy: Energy = "none"

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.energy not in get_args(Energy):
                raise ConfigError(f"Equilibrium: energy must be {' or '.join(get_args(Energy))}, got {self.energy!r}.")

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int) -> None:
        super().__init__()
        self.config, self.shape = config, (horizon, action_dim)
        self.position = nn.Parameter(torch.randn(horizon, width) * 0.02)
        self.action_in = nn.Sequential(nn.Linear(action_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.out = nn.Linear(width, action_dim)

    @property
    def settings(self) -> Settings:
        return self.config

    def tokens(self, chunks: Float[Tensor, "b h a"]) -> Float[Tensor, "b h d"]:
        """What continues the context."""
        return self.action_in(chunks) + self.position

    def _output(self, context: Context, chunks: Float[Tensor, "b h a"]) -> Float[Tensor, "b h a"]:
        sees = full_mask(len(self.position), chunks.device)
        return self.config.strength * self.out(context.extend(self.tokens(chunks), sees).hidden)

    def energy(self, context: Context, chunks: Float[Tensor, "b h a"]) -> Float[Tensor, " b"]:
        """The scalar whose gradient is the field: low where chunks are likely. Energies of several policies add."""
        if self.config.energy == "none":
            raise ConfigError("This equilibrium decoder learned a field without an energy; train with energy='dot'.")
        output = self._output(context, chunks)
        if self.config.energy == "dot":
            return (chunks * output).sum((1, 2))
        return output.square().sum((1, 2)) / (2 * self.config.strength)

    def field(
        self, context: Context, chunks: Float[Tensor, "b h a"], time: Float[Tensor, " b"]
    ) -> Float[Tensor, "b h a"]:
        """Uphill, away from likely chunks. `time` has no meaning here."""
        if self.config.energy == "none":
            return self._output(context, chunks)
        learning = torch.is_grad_enabled()
        # Fused attention has no second derivative, and callers may have switched differentiation off.
        with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            point = chunks.clone().requires_grad_()
            return torch.autograd.grad(self.energy(context, point).sum(), point, create_graph=learning)[0]
