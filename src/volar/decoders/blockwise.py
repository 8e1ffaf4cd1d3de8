"""One block of tokens after the other, the tokens of a block at once (FASTer, arXiv 2512.04952).

A block is read from the block before it, as autoregression reads a token from the token before; so a chunk costs as
many evaluations as it has blocks. Tokens of one block do not know of one another: orderings that put what decides
first, such as residual codes book by book, suit it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import Context, Predictor, Sample, Tokenizer
from volar.nn.masking import block_mask
from volar.nn.speech import IGNORED, SpeechDecoder, choose


class Blockwise(SpeechDecoder):
    """The logits at a block of tokens are those of the next block."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """block: tokens per evaluation; the paper's have 7 or 8. temperature: 0 takes the likeliest tokens."""

        block: int = 8
        temperature: float = 0.0

        def __post_init__(self) -> None:
            if self.block < 1:
                raise ConfigError(f"Blockwise: block must be at least 1, got {self.block}.")
            if self.temperature < 0:
                raise ConfigError(f"Blockwise: temperature must not be negative, got {self.temperature}.")

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int, tokenizer: Tokenizer) -> None:
        super().__init__(width=width, tokenizer=tokenizer)
        self.config = config

    def sees(self, size: int, device: torch.device) -> Bool[Tensor, "s s"]:
        return block_mask(size, self.config.block, device)

    def loss(
        self, context: Context, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"],
        *, generator: torch.Generator | None = None,
    ) -> Float[Tensor, " b"]:  # fmt: skip
        block, labels = self.config.block, self.labels(actions)
        labels = F.pad(labels, (0, -labels.shape[1] % block), value=IGNORED)  # blocks are whole when sampling, too
        start = labels.new_full((len(labels), block), self.end)
        before = torch.cat([start, labels[:, :-block].clamp(min=0)], dim=1)
        return self.cross_entropy(self.predictor(context)(before).logits, labels, valid)

    def speak(
        self, predictor: Predictor, *, rows: int, device: torch.device, generator: torch.Generator | None = None
    ) -> Sample:
        start = torch.full((rows, self.config.block), self.end, device=device)
        said = [start]
        ended = torch.zeros(rows, dtype=torch.bool, device=device)
        spent = torch.zeros(rows, dtype=torch.long, device=device)
        for _ in range(0, int(self.longest), self.config.block):
            predicted = predictor(said[-1])
            spent = spent + ~ended
            tokens = choose(predicted.logits, self.config.temperature, generator)
            said.append(tokens.masked_fill(ended[:, None], self.end))
            ended, predictor = ended | (said[-1] == self.end).any(-1), predicted.then
            if ended.all():
                break
        return Sample(actions=self.chunks(torch.cat(said[1:], dim=1)[:, : int(self.longest)]), evaluations=spent)
