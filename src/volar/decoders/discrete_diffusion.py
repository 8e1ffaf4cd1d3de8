"""Masked tokens filled in over a few rounds, the surest first (Discrete Diffusion VLA, arXiv 2508.20072), over any
action tokenizer. Learned by the likelihood bound of MDLM (arXiv 2406.07524) and LLaDA (arXiv 2502.09992); no time goes
in, since the number of masked tokens tells it. Groups: DIVA (OpenReview mNya9d1DA2), LLaDA-VLA (arXiv 2509.06932).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import UNLIMITED, AnytimeDecoder, Budget, Context, Predicted, Predictor, Sample, Tokenizer
from volar.nn.budget import Metered
from volar.nn.masking import Order, Schedule, draw_masking
from volar.nn.speech import IGNORED, SpeechDecoder
from volar.nn.transformer import full_mask
from volar.nn.unmasking import Unmasking, unmask

Commit = Literal["token", "step", "dimension", "hierarchical"]


class DiscreteDiffusion(SpeechDecoder, AnytimeDecoder):
    """The logits at a token are those of the token itself. Sequences of varying length are filled up with `end`, to
    the longest one learned."""

    group: Tensor | None  # the group that each token is kept with

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """rounds: network evaluations of a chunk. schedule: how many tokens are masked when, in training and sampling.
        temperature: 0 takes the likeliest tokens. order_temperature: noise on the order of keeping, annealed to 0. With
        a temperature alone, the surest of the samples is kept first, so that nearly always the likelier mode wins.

        remask: a kept token falls back to masked while its probability is below remask times the share of the way
        gone. corruption: share of the visible tokens replaced by random ones in training, where then all visible ones
        are learned, too; else nothing teaches the network to doubt what it sees (MGP, arXiv 2512.09101, has 0.05).
        commit: whether tokens are kept singly, by whole steps, by whole dimensions, or step by step with the last step
        in part; all but "token" need a tokenizer that gives every dimension of a step its token, such as bins.
        block: tokens per block, filled from left to right, each read once when done; 0 is a single block. `rounds` are
        shared out among blocks. settle: rounds in a row whose whole guess is the same end a row early; 0 never does.
        """

        rounds: int = 12
        schedule: Schedule = "cosine"
        temperature: float = 0.0
        order_temperature: float = 0.0
        corruption: float = 0.0
        remask: float = 0.0
        commit: Commit = "token"
        block: int = 0
        settle: int = 0

        def __post_init__(self) -> None:
            if self.rounds < 1:
                raise ConfigError(f"DiscreteDiffusion: rounds must be at least 1, got {self.rounds}.")
            if not 0 <= self.corruption < 1 or not 0 <= self.remask <= 1:
                raise ConfigError(
                    f"DiscreteDiffusion: corruption and remask are shares, 0..1; got {self.corruption}, {self.remask}."
                )
            for name in ("temperature", "order_temperature", "block", "settle"):
                if vars(self)[name] < 0:
                    raise ConfigError(f"DiscreteDiffusion: {name} must not be negative, got {vars(self)[name]}.")

    def __init__(self, config: Config, *, width: int, horizon: int, action_dim: int, tokenizer: Tokenizer) -> None:
        super().__init__(width=width, tokenizer=tokenizer, specials=2)
        self.config, self.mask = config, tokenizer.vocabulary + 1
        if config.commit != "token" and (tokenizer.length is None or tokenizer.length % action_dim):
            raise ConfigError(
                f"DiscreteDiffusion: commit={config.commit!r} needs a token for each of the {action_dim} dimensions of "
                f"a step, as bins gives; this tokenizer gives {tokenizer.length or 'varying numbers of'} tokens."
            )
        order: Order = "group" if config.commit in ("step", "dimension") else config.commit
        self.how = Unmasking(
            mask=self.mask, schedule=config.schedule, temperature=config.temperature,
            order_temperature=config.order_temperature, remask=config.remask, order=order, settle=config.settle,
        )  # fmt: skip
        places = torch.arange(tokenizer.length or 1)
        group = places % action_dim if config.commit == "dimension" else places // action_dim
        self.register_buffer("group", None if order == "token" else group, persistent=False)

    def sees(self, size: int, device: torch.device) -> Bool[Tensor, "s s"]:
        return full_mask(size, device)

    def loss(
        self, context: Context, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"],
        *, generator: torch.Generator | None = None,
    ) -> Float[Tensor, " b"]:  # fmt: skip
        """Bound on the negative log-likelihood per token; with corruption, the loss of visible tokens comes on top."""
        clean, predictor, total = self.canvas(actions), self.predictor(context), torch.zeros(())
        blocks = clean.split(self.config.block or clean.shape[1], dim=1)
        for number, block in enumerate(blocks):
            if number:
                predictor = predictor(blocks[number - 1]).then
            total = total + self._block_loss(predictor, block, generator) * block.shape[1]
        return total / clean.shape[1] * valid.any(-1)

    def canvas(self, actions: Float[Tensor, "b h a"]) -> Int[Tensor, "b s"]:
        """The tokens of each chunk, filled up with `end` to the longest sequence learned."""
        labels = self.labels(actions)
        size = max(int(self.longest), labels.shape[1] - (self.tokenizer.length is None))
        labels = F.pad(labels, (0, size - labels.shape[1]), value=IGNORED)
        return labels.masked_fill(labels == IGNORED, self.end)

    def _block_loss(
        self, predictor: Predictor, clean: Int[Tensor, "b s"], generator: torch.Generator | None
    ) -> Float[Tensor, " b"]:
        device, share = clean.device, self.config.corruption
        rows, size = clean.shape
        masking = draw_masking(rows, size, self.config.schedule, generator=generator, device=device)
        ids = clean
        if share:
            replaced = torch.rand(clean.shape, generator=generator, device=device) < share
            others = torch.randint(self.out.out_features, clean.shape, generator=generator, device=device)
            ids = torch.where(replaced, others, clean)
        logits = predictor(ids.masked_fill(masking.masked, self.mask)).logits
        losses = F.cross_entropy(logits.transpose(1, 2), clean, reduction="none")
        masked = masking.masked.float()
        bound = masking.weight * (losses * masked).sum(-1) / masked.sum(-1)
        return bound + (losses * (1 - masked)).mean(-1) if share else bound

    def sample(
        self, context: Context, *, generator: torch.Generator | None = None, budget: Budget = UNLIMITED
    ) -> Sample:
        tokens = context.tokens
        return self.speak(
            self.predictor(context), rows=len(tokens), device=tokens.device, generator=generator, budget=budget
        )

    def speak(
        self, predictor: Predictor, *, rows: int, device: torch.device, generator: torch.Generator | None = None,
        budget: Budget = UNLIMITED,
    ) -> Sample:  # fmt: skip
        """A limited budget takes the place of `rounds`. Where it does not pay for a round of each block and for reading
        it, the rest becomes one block; when seconds are over before the last block, that costs two evaluations more."""
        longest, block = int(self.longest), self.config.block or int(self.longest)
        plan = _Plan(budget, device, blocks=-(-longest // block), rounds=self.config.rounds)
        said = torch.full((rows, longest), self.end, device=device)
        ended = torch.zeros(rows, dtype=torch.bool, device=device)
        spent = torch.zeros(rows, dtype=torch.long, device=device)
        start, stop = 0, 0
        while stop < longest and not ended.all():
            if stop:
                predictor, spent = plan.meter(predictor, said[:, start:stop]).then, spent + ~ended
            later = plan.later_blocks(-(-(longest - stop) // block))
            start, stop = stop, stop + block if later else longest
            filled = unmask(
                partial(_logits, plan.meter, predictor), said[:, start:stop].masked_fill(~ended[:, None], self.mask),
                self.how, more=plan.rounds(later), moving=~ended,
                group=None if self.group is None else self.group[start:stop], generator=generator,
            )  # fmt: skip
            said[:, start:stop], spent = filled.tokens, spent + filled.evaluations
            ended = ended | (filled.tokens == self.end).any(-1)
        return Sample(actions=self.chunks(said), evaluations=spent)


class _Plan:
    """Shares evaluations out among blocks. Each block but the last is read once more when it is done."""

    def __init__(self, budget: Budget, device: torch.device, *, blocks: int, rounds: int) -> None:
        self.meter = Metered(_read, budget, device)
        self.unlimited = blocks * max(1, rounds // blocks) + blocks - 1

    def left(self) -> int:
        left = self.meter.left()
        return self.unlimited - self.meter.evaluations if left is None else left

    def later_blocks(self, blocks: int) -> int:
        """How many of so many blocks come after the next one; none when there is no evaluation for each."""
        return blocks - 1 if self.left() >= 2 * blocks - 1 else 0

    def rounds(self, later: int) -> Callable[[], int]:
        """What tells a block that begins now how many more rounds it may have, as time goes by."""
        begin = self.meter.evaluations

        def more() -> int:
            used = self.meter.evaluations - begin
            return (used + self.left() - later) // (later + 1) - used

        return more


def _read(predictor: Predictor, tokens: Int[Tensor, "b s"]) -> Predicted:
    return predictor(tokens)


def _logits(meter: Metered, predictor: Predictor, tokens: Int[Tensor, "b s"]) -> Float[Tensor, "b s k"]:
    return meter(predictor, tokens).logits
