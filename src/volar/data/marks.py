"""Marks drawn on pictures for people to look at; what a policy sees of its own marks is its reasoner's affair.

Pictures are enlarged first: on the 96 pixels that a policy learns from, a ring would hide what it is about.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from volar.core.thoughts import Mark

LEGIBLE = 192  # pixels that a marked picture is high at least
# Okabe & Ito, "Color Universal Design" (2008): apart for every kind of colour vision, and from a wooden table.
NEXT, SOURCE, DESTINATION, NAMED, DONE = "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
COLOURS = {"next": NEXT, "source": SOURCE, "destination": DESTINATION}  # by role; an object's name is NAMED
HALO = "#000000"
RING, LINE = 0.05, 0.0125  # radius of a point's ring and width of a line, in fractions of the picture's height


def colour_of(mark: Mark) -> str:
    return DONE if mark.done else COLOURS.get(mark.role, NAMED)


def mark_picture(picture: UInt8[np.ndarray, "h w 3"], marks: Sequence[Mark]) -> UInt8[np.ndarray, "H W 3"]:
    """The picture, a whole number of times larger so that it is at least `LEGIBLE` pixels high, with these marks, all
    of which belong to it: a ring with a dot for a point, a box for a box; its order or its object's name beside it."""
    factor = -(-LEGIBLE // len(picture))
    image = Image.fromarray(picture).resize(
        (picture.shape[1] * factor, len(picture) * factor), Image.Resampling.BICUBIC
    )
    draw = ImageDraw.Draw(image)
    for mark in marks:
        _draw(draw, mark, image.size)
    return np.asarray(image)


def _draw(draw: ImageDraw.ImageDraw, mark: Mark, size: tuple[int, int]) -> None:
    (width, height), colour = size, colour_of(mark)
    x, y = mark.centre[0] * width, mark.centre[1] * height
    line, ring = max(2, round(LINE * height)), RING * height
    if mark.size == (0.0, 0.0):
        across, up = ring, ring
        dot = line * 0.9
        draw.ellipse((x - dot, y - dot, x + dot, y + dot), fill=colour, outline=HALO)
        shape = draw.ellipse
    else:
        across, up = mark.size[0] * width / 2, mark.size[1] * height / 2
        shape = draw.rectangle
    for grown, ink, thick in ((line / 2, HALO, 2 * line), (0, colour, line)):
        shape((x - across - grown, y - up - grown, x + across + grown, y + up + grown), outline=ink, width=thick)
    _tag(draw, mark, (x - across - line, x + across + line, y - up), size)


def _tag(draw: ImageDraw.ImageDraw, mark: Mark, room: tuple[float, float, float], size: tuple[int, int]) -> None:
    """room: where the shape begins and ends from left to right, and its upper edge."""
    text = str(mark.order) if mark.order else "" if mark.role in COLOURS else mark.role
    if not text:
        return
    font = ImageFont.load_default(round(0.075 * size[1]))
    _, _, long, low = draw.textbbox((0, 0), text, font=font, stroke_width=2)
    left, right, top = room
    place = (right if right + long <= size[0] else max(0, left - long), min(max(top, 0), size[1] - low))
    draw.text(place, text, font=font, fill=colour_of(mark), stroke_width=2, stroke_fill=HALO)
