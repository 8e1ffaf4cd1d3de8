"""Where on a picture the named things are. Boxes, not places in the world: see locating.py."""

import base64
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked

from volar.core.errors import ConfigError
from volar.reasoning.language.conversation import Conversation, Reading
from volar.reasoning.language.language_model import LanguageModel, Message, endpoint
from volar.reasoning.language.motion_request import STRICT, first_object, validated

Thousandth = Annotated[float, Field(ge=0, le=1000)]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """low, high: the box's upper left and lower right corner as fractions of width and height."""

    name: str
    score: float
    low: tuple[float, float]
    high: tuple[float, float]


class Detector(ABC):
    """Finds things by their names."""

    @abstractmethod
    def detect(self, image: UInt8[np.ndarray, "_ _ 3"], names: Sequence[str]) -> list[Detection]:
        """At most one box per name; none for what is not in the picture. Raises EpisodeError when nobody answers."""


ASKED = """\
Find these things in the picture: {names}.
Answer with one JSON object: {{"found": [{{"name": ..., "box": [left, top, right, bottom]}}]}}
Coordinates are thousandths of the picture's width and height, from its upper left corner. Use the names exactly as
written, each at most once, and leave out what you do not see."""


@checked(frozen=True, kw_only=True, config=STRICT)
class Found:
    """box: left, top, right, bottom in thousandths of the picture."""

    name: str
    box: tuple[Thousandth, Thousandth, Thousandth, Thousandth]


@checked(frozen=True, kw_only=True, config=STRICT)
class Answered:
    """What a vision-language model answers."""

    found: tuple[Found, ...]


SCHEMA: dict[str, Any] = TypeAdapter(Answered).json_schema()


class ModelDetector(Detector):
    """A vision-language model that answers with boxes in JSON."""

    def __init__(self, model: LanguageModel, *, attempts: int = 2) -> None:
        self._talk = Conversation(model, attempts=attempts)

    def detect(self, image: UInt8[np.ndarray, "_ _ 3"], names: Sequence[str]) -> list[Detection]:
        asked = Message(role="user", text=ASKED.format(names=", ".join(names)), images=(data_url(image),))
        return self._talk.ask([asked], SCHEMA, lambda text: Reading(value=read_boxes(text, names))).value


def endpoint_detector(**settings: Any) -> ModelDetector:
    """settings: of `language_model.endpoint`."""
    return ModelDetector(endpoint(**settings))


def read_boxes(text: str, names: Sequence[str]) -> list[Detection]:
    """Raises ConfigError that says what is wrong, fit to be sent back to the model."""
    answered = validated(Answered, first_object(text), "The boxes are")
    boxes: dict[str, Detection] = {}
    for each in answered.found:
        left, top, right, bottom = (number / 1000 for number in each.box)
        if each.name not in names or each.name in boxes or left >= right or top >= bottom:
            raise ConfigError(
                f"{each.name!r} with box {each.box} is not one of {', '.join(names)}, comes twice, or is "
                f"an empty box: left and top must be below right and bottom."
            )
        boxes[each.name] = Detection(name=each.name, score=1.0, low=(left, top), high=(right, bottom))
    return list(boxes.values())


def data_url(image: UInt8[np.ndarray, "_ _ 3"]) -> str:
    """The picture as PNG inside a URL, as chat completions take it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
