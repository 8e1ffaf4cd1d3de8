"""Equilibrium matching without learning: the exact field of remembered demonstrations, of which those from similar
contexts count most. The control that tells what of a learned field's behaviour is due to learning; not trained.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import Context, Field
from volar.nn.equilibrium import RestingDecoder, Settings, exact_field
from volar.nn.transformer import full_mask


@dataclass(frozen=True)
class Recalled:
    """What is remembered from similar contexts: chunks, and how much each counts; the sum of a row is 1."""

    chunks: Float[Tensor, "b n h a"]
    weights: Float[Tensor, "b n"]


class ExactEquilibrium(RestingDecoder):
    """Not in the table: `policies.exact.exact_control` makes it from a trained policy. Two contexts are similar when
    the backbone's states after the trained decoder's tokens are; `loss` on held-out data tells a good bandwidth."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Settings):
        """demonstrations: chunks remembered. neighbours: of them that count in a context. bandwidth: of the Gaussian
        kernel between contexts, in units of the median distance between remembered ones."""

        demonstrations: int = 1
        neighbours: int = 256
        bandwidth: float = 0.1

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.demonstrations < 1 or self.neighbours < 1 or self.bandwidth <= 0:
                raise ConfigError(
                    f"ExactEquilibrium: demonstrations, neighbours and bandwidth must be positive, got "
                    f"{self.demonstrations}, {self.neighbours} and {self.bandwidth}."
                )

    queries: Tensor
    keys: Tensor
    bank: Tensor
    scale: Tensor

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int) -> None:
        super().__init__()
        self.config, self.shape = config, (horizon, action_dim)
        self.register_buffer("queries", torch.zeros(horizon, width))
        self.register_buffer("keys", torch.zeros(config.demonstrations, width))
        self.register_buffer("bank", torch.zeros(config.demonstrations, horizon, action_dim))
        self.register_buffer("scale", torch.ones(()))

    @property
    def settings(self) -> Settings:
        return self.config

    def remember(
        self, queries: Float[Tensor, "h d"], keys: Float[Tensor, "n d"], chunks: Float[Tensor, "n h a"]
    ) -> None:
        """In place of what was remembered: as many as `Config.demonstrations`. keys: `context_key` by `queries`."""
        assert len(keys) == self.config.demonstrations
        self.queries.copy_(queries)
        self.keys.copy_(keys)
        self.bank.copy_(chunks)
        some = keys[:: 1 + len(keys) // 2000]
        self.scale.copy_(_distances(some, some).median().clamp_min(1e-6))

    def recall(self, context: Context) -> Recalled:
        far = _distances(context_key(context, self.queries), self.keys) / (self.config.bandwidth * self.scale)
        near = far.topk(min(self.config.neighbours, far.shape[1]), largest=False)
        return Recalled(self.bank[near.indices], (-near.values.square() / 2).softmax(dim=-1).clamp_min(1e-30))

    def field_in(self, context: Context) -> Field:
        recalled, decay = self.recall(context), self.config.decay

        def field(chunks: Float[Tensor, "b h a"], time: Float[Tensor, " b"]) -> Float[Tensor, "b h a"]:
            return exact_field(chunks, recalled.chunks, recalled.weights, decay=decay)

        return field

    def field(
        self, context: Context, chunks: Float[Tensor, "b h a"], time: Float[Tensor, " b"]
    ) -> Float[Tensor, "b h a"]:
        return self.field_in(context)(chunks, time)


def context_key(context: Context, queries: Float[Tensor, "h d"]) -> Float[Tensor, "b d"]:
    """By which contexts are compared: the mean of the states of `queries` that continue them."""
    new = queries.expand(len(context.tokens), -1, -1)
    return context.extend(new, full_mask(len(queries), queries.device)).hidden.mean(dim=1)


def _distances(some: Float[Tensor, "b d"], others: Float[Tensor, "n d"]) -> Float[Tensor, "b n"]:
    return torch.cdist(some, others, compute_mode="donot_use_mm_for_euclid_dist")
