"""Low-rank adaptation (arXiv 2106.09685): a frozen linear layer plus a trained product of two thin matrices."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from volar.core.errors import ConfigError


class LowRank(nn.Module):
    """`frozen(x)` + scale * `up(down(x))`; `up` begins at zero, so that nothing changes before training."""

    def __init__(self, frozen: nn.Linear, *, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.frozen, self.scale = frozen.requires_grad_(False), scale
        self.down = nn.Parameter(frozen.in_features**-0.5 * torch.randn(rank, frozen.in_features, generator=generator))
        self.up = nn.Parameter(torch.zeros(frozen.out_features, rank))

    def forward(self, states: Float[Tensor, "*b d"]) -> Float[Tensor, "*b e"]:
        return self.frozen(states) + self.scale * (states @ self.down.T @ self.up.T)


def add_low_rank(
    layers: Mapping[str, nn.Module], *, rank: int, scale: float, generator: torch.Generator
) -> dict[str, LowRank]:
    """Wraps every linear layer inside the named ones; what is to be trained, by name of layer and place in it."""
    wrapped = {}
    for name, layer in layers.items():
        for path, linear in list(layer.named_modules()):
            if isinstance(linear, nn.Linear):
                new = LowRank(linear, rank=rank, scale=scale, generator=generator)
                outer, _, last = path.rpartition(".")
                layer.get_submodule(outer).register_module(last, new)
                wrapped[f"{name}.{path}"] = new
    return wrapped


def learned(wrapped: Mapping[str, LowRank]) -> dict[str, Tensor]:
    """down [rank d] and up [e rank] of every wrapped layer, the scale within `up`."""
    return {
        f"{name}.{part}": value.detach().clone()
        for name, layer in wrapped.items()
        for part, value in (("down", layer.down), ("up", layer.scale * layer.up))
    }


@torch.no_grad()
def start_from(wrapped: Mapping[str, LowRank], tensors: Mapping[str, Tensor]) -> None:
    """Puts what `learned` gave back into layers of the same shape. Raises ConfigError for what does not fit."""
    shapes = {name: value.shape for name, value in learned(wrapped).items()}
    if shapes != {name: value.shape for name, value in tensors.items()}:
        raise ConfigError("These additions are to other layers, or of another rank.")
    for name, layer in wrapped.items():
        layer.down.copy_(tensors[f"{name}.down"])
        layer.up.copy_(tensors[f"{name}.up"] / layer.scale)


@torch.no_grad()
def fold_low_rank(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Adds what `learned` gave to the weights of a model without wrapping. Raises ConfigError for what does not fit."""
    for name in {key.rpartition(".")[0] for key in tensors}:
        down, up = tensors.get(f"{name}.down"), tensors.get(f"{name}.up")
        try:
            linear = model.get_submodule(name)
        except AttributeError:
            linear = None
        if not isinstance(linear, nn.Linear) or down is None or up is None:
            raise ConfigError(f"These additions are for another network: it has no linear layer {name!r} for them.")
        if linear.weight.shape != (up.shape[0], down.shape[1]) or up.shape[1] != down.shape[0]:
            raise ConfigError(f"The additions to {name!r} have shapes {tuple(up.shape)} and {tuple(down.shape)}.")
        linear.weight += up @ down
