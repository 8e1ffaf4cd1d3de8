"""One token after the other, over any action tokenizer (RT-2 arXiv 2307.15818, pi0-FAST arXiv 2501.09747).

The context is read once; the new tokens are read again for every next one, so a chunk of n tokens costs n evaluations.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from volar.core.errors import ConfigError
from volar.core.model import Context, Sample, TokenDecoder, Tokenizer
from volar.nn.transformer import causal_mask, sinusoid

IGNORED = -100  # cross-entropy's label for padding
POSITIONS = 256  # tokens until the slowest sine has come round a quarter


class Autoregressive(TokenDecoder):
    """Only the tokenizer's ids and, where lengths vary, an end can be said; so every sequence decodes."""

    longest: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """temperature: 0 takes the likeliest token, above it samples."""

        temperature: float = 0.0

        def __post_init__(self) -> None:
            if self.temperature < 0:
                raise ConfigError(f"Autoregressive: temperature must not be negative, got {self.temperature}.")

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config, self.width, self.tokenizer = config, width, tokenizer
        self.end = tokenizer.vocabulary
        self.embedding = nn.Embedding(tokenizer.vocabulary + 1, width)  # the last one begins a chunk, and ends it
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.out = nn.Linear(width, tokenizer.vocabulary + 1)
        # The longest sequence learned; nothing longer is said. Part of the checkpoint.
        self.register_buffer("longest", torch.tensor(tokenizer.length or 1))

    def logits(self, context: Context, before: Int[Tensor, "b s"]) -> Float[Tensor, "b s k"]:
        """Of the token after each of `before`; `before` begins with `self.end`."""
        places = torch.arange(before.shape[1], device=before.device) / POSITIONS
        tokens = self.embedding(before) + sinusoid(places, self.width)
        return self.out(context.extend(tokens, causal_mask(before.shape[1], before.device)).hidden)

    def loss(
        self, context: Context, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"],
        *, generator: torch.Generator | None = None,
    ) -> Float[Tensor, " b"]:  # fmt: skip
        """Mean cross-entropy of a chunk's tokens. A token may stand for many steps, so the padded end of a chunk, which
        repeats the last action, is learned with the rest; a row without any valid step has no loss."""
        sequences = self.tokenizer.encode(actions)
        stops = [] if self.tokenizer.length else [self.end]
        after = [torch.tensor([*ids, *stops]) for ids in sequences]
        labels = nn.utils.rnn.pad_sequence(after, batch_first=True, padding_value=IGNORED).to(actions.device)
        if self.training:
            self.longest.clamp_(min=max(map(len, sequences)))
        before = F.pad(labels, (1, -1), value=self.end).clamp(min=0)
        losses = F.cross_entropy(
            self.logits(context, before).transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )
        return losses.sum(-1) / (labels != IGNORED).sum(-1) * valid.any(-1)

    def sample(self, context: Context, *, generator: torch.Generator | None = None) -> Sample:
        device, rows = context.tokens.device, len(context.tokens)
        said = torch.full((rows, 1), self.end, device=device)
        ended = torch.zeros(rows, dtype=torch.bool, device=device)
        spent = torch.zeros(rows, dtype=torch.long, device=device)
        while said.shape[1] <= int(self.longest) and not ended.all():
            logits = self.logits(context, said)[:, -1]
            if self.tokenizer.length:
                logits[:, self.end] = -torch.inf
            spent += ~ended
            token = self._choose(logits, generator).masked_fill(ended, self.end)
            said = torch.cat([said, token[:, None]], dim=1)
            ended = ended | (token == self.end)
        sequences = [[token for token in row if token != self.end] for row in said[:, 1:].tolist()]
        return Sample(actions=self.tokenizer.decode(sequences).to(device), evaluations=spent)

    def _choose(self, logits: Float[Tensor, "b k"], generator: torch.Generator | None) -> Int[Tensor, " b"]:
        if self.config.temperature == 0:
            return logits.argmax(-1)
        chances = (logits / self.config.temperature).softmax(-1)
        return torch.multinomial(chances, 1, generator=generator)[:, 0]
