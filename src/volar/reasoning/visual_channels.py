"""Four ways to hand marks to a decoder: as coordinates, as the tokens that say them, as a crop of the picture around
them, or drawn on the picture. Every one gives the context that the decoder works on."""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from volar.core.errors import ConfigError
from volar.core.model import Batch, Context
from volar.core.reasoner import Encode
from volar.nn.transformer import full_mask, sinusoid
from volar.reasoning.visual_heads import to_bins
from volar.reasoning.visual_pictures import cut_out, draw
from volar.reasoning.visual_slots import Marking, Places, Standing

READS = 4  # tokens that a crop is summed up in


class Channel(nn.Module, ABC):
    """Constructor: `(width, marking)`. uses_images: where stored features will not do. needs_context: of the picture
    as it is. evaluations: of the network, the encoding of the picture not counted."""

    uses_images = False
    needs_context = True
    evaluations = 1

    @abstractmethod
    def forward(self, batch: Batch, context: Context | None, encode: Encode, places: Places) -> Context:
        """context: of the batch as it is; None where `needs_context` is False."""


class AppendingChannel(Channel):
    """A Channel that lengthens the context by new tokens."""

    def __init__(self, width: int, marking: Marking) -> None:
        super().__init__()
        self.marking = marking
        self.slot = nn.Parameter(0.02 * torch.randn(len(marking.slots), width))
        self.state = nn.Embedding(len(Standing), width)
        nn.init.normal_(self.state.weight, std=0.02)

    def meaning(self, places: Places) -> Float[Tensor, "b s d"]:
        """Which mark it is, and how it stands with it."""
        return self.slot + self.state(places.standing)


class Coordinates(AppendingChannel):
    """One new token a mark: sines of its numbers."""

    SINES = 32

    def __init__(self, width: int, marking: Marking) -> None:
        super().__init__(width, marking)
        inputs = marking.numbers * (self.SINES + 1)
        self.embed = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, batch: Batch, context: Context | None, encode: Encode, places: Places) -> Context:
        numbers = places.box[..., : self.marking.numbers]
        # Finer sines than a tenth of the picture would tell places apart that a calibration confuses.
        waves = torch.cat([numbers[..., None], sinusoid(numbers, self.SINES, low=0.1)], dim=-1).flatten(-2)
        return _appended(context, self.embed(waves) * places.there[..., None] + self.meaning(places))


class Tokens(AppendingChannel):
    """One new token a number: the embedding of its bin."""

    def __init__(self, width: int, marking: Marking) -> None:
        super().__init__(width, marking)
        self.embed = nn.Parameter(0.02 * torch.randn(marking.numbers, marking.bins, width))

    def forward(self, batch: Batch, context: Context | None, encode: Encode, places: Places) -> Context:
        numbers = self.marking.numbers
        said = to_bins(places.box[..., :numbers], self.marking.bins)
        tokens = self.embed[torch.arange(numbers, device=said.device), said] * places.there[..., None, None]
        return _appended(context, (tokens + self.meaning(places)[..., None, :]).flatten(1, 2))


class Crop(AppendingChannel):
    """What the backbone sees in a crop around each mark, summed up in `READS` new tokens by learned queries."""

    uses_images = True

    def __init__(self, width: int, marking: Marking) -> None:
        super().__init__(width, marking)
        self.evaluations = 1 + len(marking.slots)
        self.queries = nn.Parameter(0.02 * torch.randn(READS, width))
        self.embed = nn.Linear(width, width)

    def forward(self, batch: Batch, context: Context | None, encode: Encode, places: Places) -> Context:
        queries, meaning, read = self.queries.expand(len(places.box), -1, -1), self.meaning(places), []
        for index, slot in enumerate(self.marking.slots):
            cut = cut_out(pictures_of(batch, slot.camera), places.box[:, index, :2], self.marking.crop)
            closer = encode(_seeing(batch, {slot.camera: cut}))
            states = closer.extend(queries, full_mask(READS, queries.device)).hidden
            read.append(self.embed(states) * places.there[:, index, None, None] + meaning[:, index, None])
        return _appended(context, torch.cat(read, dim=1))


class Overlay(Channel):
    """Drawn on the picture, which the backbone then sees instead of the plain one. Nothing of its own is learned."""

    uses_images, evaluations, needs_context = True, 0, False

    def __init__(self, width: int, marking: Marking) -> None:
        super().__init__()
        self.marking = marking

    def forward(self, batch: Batch, context: Context | None, encode: Encode, places: Places) -> Context:
        drawn = {}
        for camera in dict.fromkeys(slot.camera for slot in self.marking.slots):
            drawn[camera] = draw(pictures_of(batch, camera), places, self.marking.slots, camera)
        return encode(_seeing(batch, drawn))


def pictures_of(batch: Batch, camera: str) -> UInt8[Tensor, "b height width 3"]:
    if camera not in batch.images:
        raise ConfigError(
            f"Marks on camera {camera!r} are to be drawn or cut out, and the batch brings no picture of it (stored "
            f"features are of pictures without marks). Pictures in the batch: {', '.join(batch.images) or 'none'}."
        )
    return batch.images[camera]


def _seeing(batch: Batch, changed: dict[str, Tensor]) -> Batch:
    """Other pictures, and for them no stored features, which are of what they were."""
    features = {name: each for name, each in batch.features.items() if name not in changed}
    return replace(batch, images={**batch.images, **changed}, features=features)


def _appended(context: Context | None, new: Float[Tensor, "b s d"]) -> Context:
    assert context is not None
    return context.extend(new, full_mask(new.shape[1], new.device)).context


CHANNELS: dict[str, type[Channel]] = {"coordinates": Coordinates, "tokens": Tokens, "crop": Crop, "overlay": Overlay}
