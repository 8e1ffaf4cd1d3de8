"""Low-rank adaptation (arXiv 2106.09685): a frozen linear layer plus a trained product of two thin matrices."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LowRank(nn.Module):
    """`frozen(x)` + scale * `up(down(x))`; `up` begins at zero, so that nothing changes before training."""

    def __init__(self, frozen: nn.Linear, *, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.frozen, self.scale = frozen.requires_grad_(False), scale
        spread = frozen.in_features**-0.5
        self.down = nn.Parameter(spread * torch.randn(rank, frozen.in_features, generator=generator))
        self.up = nn.Parameter(torch.zeros(frozen.out_features, rank))

    def forward(self, states: Float[Tensor, "*b d"]) -> Float[Tensor, "*b e"]:
        return self.frozen(states) + self.scale * (states @ self.down.T @ self.up.T)

    def folded(self) -> nn.Linear:
        """One layer that does the same."""
        with torch.no_grad():
            self.frozen.weight += self.scale * (self.up @ self.down)
        return self.frozen


def add_low_rank(model: nn.Module, *, rank: int, scale: float, generator: torch.Generator) -> dict[str, LowRank]:
    """Wraps every linear layer of `model` and freezes all else; what is to be trained, by the layer's name."""
    model.requires_grad_(False)
    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    wrapped = {name: LowRank(layer, rank=rank, scale=scale, generator=generator) for name, layer in found.items()}
    for name, layer in wrapped.items():
        _put(model, name, layer)
    return wrapped


def fold_low_rank(model: nn.Module, wrapped: dict[str, LowRank]) -> None:
    """Back to plain layers that hold what was learned."""
    for name, layer in wrapped.items():
        _put(model, name, layer.folded())


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    path, _, last = name.rpartition(".")
    model.get_submodule(path).register_module(last, layer)
