"""What a decoder needs around it in a test: a stand-in for a backbone, a fitted tokenizer, a seeded generator."""

import torch
from torch import nn

from volar.core.model import Context, Decoder, LayeredDecoder, TokenDecoder, Tokenizer
from volar.core.registry import build_config
from volar.decoders import TABLE
from volar.nn.transformer import Trunk
from volar.tokenizers import TABLE as TOKENIZERS

WIDTH, HORIZON, DIM, TOKENS = 32, 4, 3, 6


class Surroundings(nn.Module):
    """Stands for a backbone: a learned embedding of an input, and a trunk that continues it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, WIDTH)
        self.trunk = Trunk(WIDTH, depth=2, heads=4)

    def context(self, inputs: torch.Tensor, mask: torch.Tensor | None = None) -> Context:
        mask = torch.ones(inputs.shape[:2], dtype=torch.bool) if mask is None else mask
        return self.trunk.context(self.embed(inputs), mask)


def make(name: str, tokenizer: str = "bins", **options: float | str) -> tuple[Surroundings, Decoder]:
    torch.manual_seed(0)
    cls = TABLE.load(name)
    sizes = {"width": WIDTH, "horizon": HORIZON, "action_dim": DIM}
    if issubclass(cls, TokenDecoder):
        return Surroundings(), cls(build_config(cls, options), **sizes, tokenizer=fitted(tokenizer))
    if issubclass(cls, LayeredDecoder):
        around = Surroundings()
        return around, cls(build_config(cls, options), **sizes, layers=around.trunk.layer_shape)
    return Surroundings(), cls(build_config(cls, options), **sizes)


def fitted(name: str) -> Tokenizer:
    cls = TOKENIZERS.load(name)
    tokenizer = cls(cls.Config(), horizon=HORIZON, action_dim=DIM)
    tokenizer.fit(torch.tanh(torch.randn(64, HORIZON, DIM, generator=seeded(2))), generator=seeded(2))
    return tokenizer


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)
