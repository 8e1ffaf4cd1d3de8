"""The network that decoders of tokens share: ids go in at their places, the backbone's own layers continue the context
by them, and logits come out. Only what the tokenizer can decode has a logit."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from volar.core.model import Context, LogitDecoder, Predicted, Predictor, Tokenizer
from volar.nn.transformer import sinusoid

IGNORED = -100  # cross-entropy's label for padding
POSITIONS = 256  # tokens until the slowest sine has come round a quarter


class SpeechDecoder(LogitDecoder):
    """`end` is the id after the tokenizer's: it begins a chunk and, where lengths vary, ends it."""

    longest: Tensor

    def __init__(self, *, width: int, tokenizer: Tokenizer, specials: int = 1) -> None:
        """specials: ids beyond the tokenizer's that can be read, `end` among them."""
        super().__init__()
        self.width, self.tokenizer, self.end = width, tokenizer, tokenizer.vocabulary
        self.embedding = nn.Embedding(tokenizer.vocabulary + specials, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.out = nn.Linear(width, tokenizer.vocabulary + (tokenizer.length is None))
        # The longest sequence learned; nothing longer is said. Part of the checkpoint.
        self.register_buffer("longest", torch.tensor(tokenizer.length or 1))

    @abstractmethod
    def sees(self, size: int, device: torch.device) -> Bool[Tensor, "s s"]:
        """Who sees whom among tokens that are read at once."""

    def predictor(self, context: Context) -> Predictor:
        return self._predictor(context, 0)

    def _predictor(self, context: Context, said: int) -> Predictor:
        def predict(ids: Int[Tensor, "b s"]) -> Predicted:
            size = ids.shape[1]
            places = torch.arange(said, said + size, device=ids.device) / POSITIONS
            tokens = self.embedding(ids) + sinusoid(places, self.width)
            longer = context.extend(tokens, self.sees(size, ids.device))
            return Predicted(logits=self.out(longer.hidden), then=self._predictor(longer.context, said + size))

        return predict

    def labels(self, actions: Float[Tensor, "b h a"]) -> Int[Tensor, "b s"]:
        """The tokens of each chunk, then `end` where lengths vary, then IGNORED."""
        sequences = self.tokenizer.encode(actions)
        if self.training:
            self.longest.clamp_(min=max(map(len, sequences)))
        stops = [] if self.tokenizer.length else [self.end]
        rows = [torch.tensor([*ids, *stops]) for ids in sequences]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORED).to(actions.device)

    def cross_entropy(
        self, logits: Float[Tensor, "b s k"], labels: Int[Tensor, "b s"], valid: Bool[Tensor, "b h"]
    ) -> Float[Tensor, " b"]:
        """Mean over a chunk's tokens. A token may stand for many steps, so the padded end of a chunk, which repeats the
        last action, is learned with the rest; a row without any valid step has no loss."""
        losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
        return losses.sum(-1) / (labels != IGNORED).sum(-1) * valid.any(-1)

    def chunks(self, said: Int[Tensor, "b s"]) -> Float[Tensor, "b h a"]:
        """What the tokens before the first `end` of each row stand for."""
        lengths = self.until_end(said).sum(-1).tolist()
        sequences = [row[:length] for row, length in zip(said.tolist(), lengths, strict=True)]
        return self.tokenizer.decode(sequences).to(said.device)

    def until_end(self, said: Int[Tensor, "b s"]) -> Bool[Tensor, "b s"]:
        return (said != self.end).cumprod(-1).bool()


def choose(logits: Float[Tensor, "*b k"], temperature: float, generator: torch.Generator | None) -> Int[Tensor, "*b"]:
    """The likeliest ids at temperature 0, else a sample."""
    if temperature > 0:
        logits = logits + temperature * gumbel(tuple(logits.shape), generator, logits.device)
    return logits.argmax(-1)


def gumbel(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Noise such that the argmax of logits + noise is a sample of their softmax."""
    return -torch.empty(shape, device=device).exponential_(generator=generator).log()


def mixed(predictors: Sequence[Predictor], weights: Sequence[float]) -> Predictor:
    """The weighted sum of the logits. With weights that sum to 1: the product of experts."""

    def predict(tokens: Int[Tensor, "b s"]) -> Predicted:
        each = [predictor(tokens) for predictor in predictors]
        logits = sum(weight * one.logits for weight, one in zip(weights, each, strict=True))
        assert isinstance(logits, Tensor)
        return Predicted(logits=logits, then=mixed([one.then for one in each], weights))

    return predict
