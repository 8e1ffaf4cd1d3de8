"""One token after the other, over any action tokenizer (RT-2 arXiv 2307.15818, pi0-FAST arXiv 2501.09747).

Context and tokens are read once, into a cache of keys and values. A window of tokens can be guessed at once and
corrected until it no longer changes (Jacobi decoding: PD-VLA, arXiv 2503.02310), which says the same in fewer
evaluations.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import Context, Predictor, Sample, Tokenizer
from volar.nn.speech import SpeechDecoder, gumbel
from volar.nn.transformer import causal_mask


@dataclass(frozen=True)
class _Settled:
    tokens: Int[Tensor, "b s"]
    evaluations: Int[Tensor, " b"]
    then: Predictor


class Autoregressive(SpeechDecoder):
    """The logits that follow a token are those of the next one."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """temperature: 0 takes the likeliest token, above it samples. window: tokens that Jacobi decoding settles
        together; 1 says one after the other. Any window says the same, up to rounding where two tokens tie."""

        temperature: float = 0.0
        window: int = 1

        def __post_init__(self) -> None:
            if self.temperature < 0:
                raise ConfigError(f"Autoregressive: temperature must not be negative, got {self.temperature}.")
            if self.window < 1:
                raise ConfigError(f"Autoregressive: window must be at least 1, got {self.window}.")

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int, tokenizer: Tokenizer) -> None:
        super().__init__(width=width, tokenizer=tokenizer)
        self.config = config

    def sees(self, size: int, device: torch.device) -> Bool[Tensor, "s s"]:
        return causal_mask(size, device)

    def loss(
        self, context: Context, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"],
        *, generator: torch.Generator | None = None,
    ) -> Float[Tensor, " b"]:  # fmt: skip
        labels = self.labels(actions)
        start = labels.new_full((len(labels), 1), self.end)
        before = torch.cat([start, labels[:, :-1].clamp(min=0)], dim=1)
        return self.cross_entropy(self.predictor(context)(before).logits, labels, valid)

    def speak(
        self, predictor: Predictor, *, rows: int, device: torch.device, generator: torch.Generator | None = None
    ) -> Sample:
        said = torch.full((rows, 1), self.end, device=device)
        ended = torch.zeros(rows, dtype=torch.bool, device=device)
        spent = torch.zeros(rows, dtype=torch.long, device=device)
        while said.shape[1] <= int(self.longest) and not ended.all():
            size = min(self.config.window, int(self.longest) + 1 - said.shape[1])
            settled = self._settle(predictor, said[:, -1:], ended, size, generator)
            predictor, spent = settled.then, spent + settled.evaluations
            said = torch.cat([said, settled.tokens], dim=1)
            ended = ended | (settled.tokens == self.end).any(-1)
        return Sample(actions=self.chunks(said[:, 1:]), evaluations=spent)

    def _settle(
        self, predictor: Predictor, last: Int[Tensor, "b 1"], ended: Bool[Tensor, " b"], size: int,
        generator: torch.Generator | None,
    ) -> _Settled:  # fmt: skip
        """The next `size` tokens. Every evaluation makes at least one more of a row's tokens final: the first that was
        wrong. A row is done when the tokens it was read with are those it answers with; then its cache is right too.
        Noise belongs to places, not to evaluations, so that sampling has a fixed point as well."""
        noise = torch.zeros((), device=last.device)
        if self.config.temperature > 0:
            shape = (len(last), self.out.out_features)
            noise = torch.stack([gumbel(shape, generator, last.device) for _ in range(size)], dim=1)
        tokens = last.new_full((len(last), size), self.end)
        moving, spent = ~ended, torch.zeros_like(ended, dtype=torch.long)
        predicted = None
        for _ in range(size):
            predicted = predictor(torch.cat([last, tokens[:, :-1]], dim=1))
            spent = spent + moving
            answer = (predicted.logits + self.config.temperature * noise).argmax(-1)
            answer = answer.masked_fill(~self.until_end(answer) | ended[:, None], self.end)
            moving = moving & (answer[:, :-1] != tokens[:, :-1]).any(-1)
            tokens = answer
            if not moving.any():
                break
        assert predicted is not None
        return _Settled(tokens, spent, predicted.then)
