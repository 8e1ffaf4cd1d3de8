"""The torch side: what backbones hand to decoders, and the abstract families that meet in a policy.

Letters, for the whole package: b batch, c cameras, t context tokens, s new tokens, d width, h horizon, a action
dimension, p proprioception, n candidates, g group, k bins or vocabulary, l layers.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from volar.core.errors import ConfigError
from volar.core.thoughts import Thought

Fitted = TypeVar("Fitted")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch as a policy takes it.

    images: camera -> uint8 [b height width 3]; may be empty when `features` holds the frozen part's output.
    features: camera -> what `FrozenVision.features` gave for those images, read from a cache.
    proprioception: normalised. actions: normalised [b h a], absent when acting. valid: False on padded steps.
    thoughts: labels, one per sample."""

    images: Mapping[str, UInt8[Tensor, "b _ _ 3"]]
    instructions: tuple[str, ...]
    proprioception: Float[Tensor, "b p"]
    features: Mapping[str, Float[Tensor, "b ..."]] = field(default_factory=dict)
    actions: Float[Tensor, "b h a"] | None = None
    valid: Bool[Tensor, "b h"] | None = None
    thoughts: tuple[Thought, ...] = ()


Extend = Callable[[Float[Tensor, "b s d"], Bool[Tensor, "*rows s s"]], "Extended"]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a backbone understood of a batch: the one type between backbones and decoders.

    tokens, mask: the context itself; False in the mask is padding.
    extend(new, sees): continue the backbone's own sequence by s new tokens, sees[i, j] = "token i may look at new
    token j", for all rows or one per row; a token that may not look at itself is padding, which nobody sees, now or
    later. Every new token sees the whole context. Nothing of the context is computed again. Gives the new tokens'
    hidden states, and the context that they are part of from now on (a key-value cache); the old one stays as it is.
    layers: per layer the keys and values [b heads t d_head], for experts (pi0, arXiv 2410.24164); None without any.
    position: of the next token, per row; None where `layers` carry no rotary embedding.
    embed: token ids -> embeddings in the backbone's vocabulary, for text; None where there is none.
    """

    tokens: Float[Tensor, "b t d"]
    mask: Bool[Tensor, "b t"]
    extend: Extend
    layers: tuple[tuple[Tensor, Tensor], ...] | None = None
    position: Int[Tensor, " b"] | None = None
    embed: Callable[[Int[Tensor, "b s"]], Float[Tensor, "b s d"]] | None = None

    @property
    def width(self) -> int:
        return self.tokens.shape[-1]


@dataclass(frozen=True, kw_only=True)
class Extended:
    """hidden: the new tokens' states. context: the old context with the new tokens at its end."""

    hidden: Float[Tensor, "b s d"]
    context: Context


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """What `Context.layers` look like: so many layers, each with keys and values [b key_heads t head_dim], which the
    backbone reads with `heads` queries. frequencies: of their rotary embedding, head_dim / 2 numbers in radians per
    position (half-split layout); empty where the keys carry no position."""

    layers: int
    heads: int
    key_heads: int
    head_dim: int
    frequencies: tuple[float, ...] = ()


class Backbone(nn.Module, ABC):
    """Images, instruction and proprioception -> Context.

    Constructor: `(config, *, cameras, proprioception, assets=None)`: the RobotSpec's cameras and number of
    proprioceptive values. assets: what `assets()` of a saved one gave; then nothing is fetched and only the
    architecture is built, since `load_state_dict` brings the weights. None: weights come from where config says.
    """

    @property
    @abstractmethod
    def width(self) -> int:
        """d of the context's tokens."""

    @property
    def layer_shape(self) -> LayerShape | None:
        """Of `Context.layers`; None where the contexts have none."""
        return None

    @abstractmethod
    def encode(self, batch: Batch) -> Context: ...

    @abstractmethod
    def card(self) -> "Card":
        """What this backbone was trained on, for the model card."""

    def assets(self) -> dict[str, bytes]:
        """Plain file name -> content: what a checkpoint keeps beside the weights, such as a vocabulary."""
        return {}


class FrozenVision(Backbone):
    """A Backbone whose first part never changes, so that its output can be computed once and stored."""

    @abstractmethod
    def features(self, images: UInt8[Tensor, "b _ _ 3"]) -> Float[Tensor, "b ..."]:
        """The frozen part on the images of one camera. `encode` takes the same from `Batch.features`."""

    @abstractmethod
    def features_key(self) -> str:
        """Hash of the frozen weights and of the image transform: the cache is valid for this key only."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Facts from which `kind` is decided; see docs/architecture.md, "What we may call a VLA"."""

    name: str
    joint_vision_language_pretraining: bool
    pretrained_parts: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Reuss, "State of VLA Research at ICLR 2026": a VLA's backbone saw vision and language together."""
        return "VLA" if self.joint_vision_language_pretraining else "multimodal policy"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a decoder gives for a context.

    actions: normalised chunks. evaluations: how often the network was evaluated for each row.
    strangeness: how far the row's end is from anything the decoder would call likely, larger is stranger; None for
    decoders that cannot tell.
    """

    actions: Float[Tensor, "b h a"]
    evaluations: Int[Tensor, " b"]
    strangeness: Float[Tensor, " b"] | None = None

    @classmethod
    def after(cls, evaluations: int, actions: Float[Tensor, "b h a"]) -> "Sample":
        """Every row took the same number of evaluations."""
        return cls(actions=actions, evaluations=torch.full((len(actions),), evaluations, device=actions.device))


class Decoder(nn.Module, ABC):
    """Turns a context into a chunk of normalised actions. Constructor: `(config, *, width, horizon, action_dim)`;
    `width` is the context's d."""

    @abstractmethod
    def loss(
        self, context: Context, actions: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"],
        *, generator: torch.Generator | None = None,
    ) -> Float[Tensor, " b"]:  # fmt: skip
        """One loss per sample, averaged over its valid steps."""

    @abstractmethod
    def sample(self, context: Context, *, generator: torch.Generator | None = None) -> Sample: ...


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much a decoder that iterates may spend on one chunk; it ends at whichever limit comes first, and at its own
    settings where there is none. At least one evaluation is always made.
    evaluations: of the network, per row. seconds: of wall time on `clock`; a decoder looks at it between evaluations,
    so it may be overshot by the time of one.
    """

    evaluations: int | None = None
    seconds: float | None = None
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        if self.evaluations is not None and self.evaluations < 1:
            raise ConfigError(f"A budget allows at least 1 evaluation, got {self.evaluations}.")
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigError(f"A budget's seconds must be positive, got {self.seconds}.")

    @property
    def limited(self) -> bool:
        return self.evaluations is not None or self.seconds is not None


UNLIMITED = Budget()


class AnytimeDecoder(Decoder):
    """A Decoder that iterates, so that it can spend more or less on the same chunk."""

    @abstractmethod
    def sample(
        self, context: Context, *, generator: torch.Generator | None = None, budget: Budget = UNLIMITED
    ) -> Sample: ...


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """What remains of the previous chunk, moved to where it falls due now. known: False where nothing remains."""

    actions: Float[Tensor, "b h a"]
    known: Bool[Tensor, "b h"]


class WarmStartDecoder(AnytimeDecoder):
    """An AnytimeDecoder that can set out from the previous chunk instead of from nothing."""

    @property
    @abstractmethod
    def warm(self) -> bool:
        """Whether its configuration asks for it. Only then does whoever runs the policy hand on the last chunk."""

    @abstractmethod
    def sample(
        self, context: Context, *, generator: torch.Generator | None = None, budget: Budget = UNLIMITED,
        start: WarmStart | None = None,
    ) -> Sample: ...  # fmt: skip


Field = Callable[[Float[Tensor, "b h a"], Float[Tensor, " b"]], Float[Tensor, "b h a"]]


class FieldDecoder(AnytimeDecoder):
    """An AnytimeDecoder that follows a vector field over chunks. Fields of several policies can be combined before
    one of them solves: `solver.solve(lambda x, t: 0.5 * first.field(c1, x, t) + 0.5 * second.field(c2, x, t), ...)`."""

    @property
    @abstractmethod
    def meaning(self) -> str:
        """What the field is, in words, with the settings that decide it: only fields of equal meaning may be added."""

    @abstractmethod
    def field(
        self, context: Context, chunks: Float[Tensor, "b h a"], time: Float[Tensor, " b"]
    ) -> Float[Tensor, "b h a"]:
        """The learned field at `chunks`; one network evaluation. Whether `time` matters is the member's."""

    @abstractmethod
    def solve(
        self, field: Field, *, rows: int, device: torch.device, generator: torch.Generator | None = None,
        budget: Budget = UNLIMITED,
    ) -> Sample:  # fmt: skip
        """`rows` chunks by following `field`, each call of which is one evaluation."""

    def sample(
        self, context: Context, *, generator: torch.Generator | None = None, budget: Budget = UNLIMITED
    ) -> Sample:
        field, tokens = partial(self.field, context), context.tokens
        return self.solve(field, rows=len(tokens), device=tokens.device, generator=generator, budget=budget)


def masked_mean(values: Float[Tensor, "b h"], valid: Bool[Tensor, "b h"]) -> Float[Tensor, " b"]:
    """Mean over the valid steps of each row; a row without any gives 0."""
    return (values * valid).sum(-1) / valid.sum(-1).clamp(min=1)


class Tokenizer(ABC):
    """Chunks of normalised actions <-> token ids. Fitted on data once, then saved inside the policy's checkpoint.

    Constructor: `(config, *, horizon, action_dim)`.
    """

    config: Any  # the nested Config of the class, a frozen dataclass
    saturated: int = 0  # numbers outside the fit that `encode` clamped; only grows
    invalid_decodes: int = 0  # sequences that were no encoding and were answered by the nearest valid chunk; only grows

    def __init__(self, *, horizon: int, action_dim: int) -> None:
        if horizon < 1 or action_dim < 1:
            raise ConfigError(f"A chunk has at least 1 step and 1 dimension; got [{horizon} {action_dim}].")
        self.horizon, self.action_dim = horizon, action_dim

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """k: ids are 0..k-1. Known before the fit."""

    @property
    def length(self) -> int | None:
        """Tokens of every chunk; None where the length varies from chunk to chunk."""
        return None

    @abstractmethod
    def fit(self, chunks: Float[Tensor, "n h a"], *, generator: torch.Generator | None = None) -> None: ...

    @abstractmethod
    def encode(self, chunks: Float[Tensor, "n h a"]) -> list[list[int]]:
        """Non-finite numbers are refused; values outside the fit saturate and are counted."""

    @abstractmethod
    def decode(self, tokens: list[list[int]]) -> Float[Tensor, "n h a"]:
        """Never raises on ids in range: an invalid sequence gives the nearest valid chunk and is counted."""

    def decode_prefix(self, tokens: list[list[int]], keep: int) -> Float[Tensor, "n h a"]:
        """What the first `keep` tokens already tell. Missing tokens are filled as in `decode`, but not counted."""
        counted = self.invalid_decodes
        chunks = self.decode([sequence[:keep] for sequence in tokens])
        self.invalid_decodes = counted
        return chunks

    @abstractmethod
    def state(self) -> dict[str, object]:
        """JSON-able state that `restore` turns back into the same tokenizer, ids included."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the tokenizer that wrote `state`; takes the place of `fit`."""

    def checked(self, chunks: Tensor) -> Float[Tensor, "n h a"]:
        """`chunks` if they are finite numbers [n horizon action_dim], else ConfigError."""
        expected = (self.horizon, self.action_dim)
        if chunks.ndim != 3 or chunks.shape[1:] != expected or not chunks.is_floating_point():
            raise ConfigError(f"Expected float chunks [n {self.horizon} {self.action_dim}], got {list(chunks.shape)}.")
        chunks = chunks.detach().cpu().float()
        if not np.isfinite(chunks.numpy()).all():  # torch's own takes twenty times as long on a batch
            chunk, step, dimension = (~torch.isfinite(chunks)).nonzero()[0].tolist()
            value = chunks[chunk, step, dimension].item()
            raise ConfigError(
                f"Chunk {chunk} is {value} at step {step}, dimension {dimension}. A tokenizer takes finite numbers "
                "only: drop or repair such frames first."
            )
        return chunks

    def fitted(self, part: Fitted | None) -> Fitted:
        """`part`, or ConfigError while it is None because neither `fit` nor `restore` ran."""
        if part is None:
            raise ConfigError(f"{type(self).__name__} knows no data yet: call fit(chunks) or restore(state) first.")
        return part


class TokenDecoder(Decoder):
    """A Decoder that speaks the tokens of any Tokenizer.

    Constructor: `(config, *, width, horizon, action_dim, tokenizer)`; the tokenizer is fitted, or restored from a
    checkpoint, before the first loss.
    """

    tokenizer: Tokenizer


class LayeredDecoder(Decoder):
    """A Decoder with layers of its own, each of which reads the backbone's keys and values of the same depth.

    Constructor: `(config, *, width, horizon, action_dim, layers)`, `layers` being the backbone's LayerShape.
    expert: those layers, called once per network evaluation.
    """

    expert: nn.Module


Predictor = Callable[[Int[Tensor, "b s"]], "Predicted"]


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """logits: one row per token given, over the tokenizer's ids and, where lengths vary, an end as the last one.
    then: the predictor for what follows those tokens; they are not computed again, and it leaves this one as it is."""

    logits: Float[Tensor, "b s k"]
    then: Predictor


class LogitDecoder(TokenDecoder):
    """A TokenDecoder that chooses tokens by their logits. Those of several policies with one tokenizer can be combined
    before one of them speaks: `decoder.speak(mixed([first, second], [0.5, 0.5]), rows=..., device=...)`."""

    @abstractmethod
    def predictor(self, context: Context) -> Predictor:
        """What the decoder reads tokens with; a call is one network evaluation. Whose logits they are (the next
        token's, those of the token itself) is the member's: only predictors of the same kind may be mixed."""

    @abstractmethod
    def speak(
        self, predictor: Predictor, *, rows: int, device: torch.device, generator: torch.Generator | None = None
    ) -> Sample:
        """`rows` chunks of the tokens that `predictor` makes likely."""

    def sample(self, context: Context, *, generator: torch.Generator | None = None) -> Sample:
        tokens = context.tokens
        return self.speak(self.predictor(context), rows=len(tokens), device=tokens.device, generator=generator)
