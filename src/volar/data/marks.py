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
# In fractions of the picture's height: the radius of a point's ring, the width of a line, the size of letters.
RING, LINE, TEXT = 0.05, 0.0125, 0.065
Frame = tuple[float, float, float, float]  # left, top, right, bottom, pixels


def colour_of(mark: Mark) -> str:
    return DONE if mark.done else COLOURS.get(mark.role, NAMED)


def mark_picture(picture: UInt8[np.ndarray, "h w 3"], marks: Sequence[Mark]) -> UInt8[np.ndarray, "H W 3"]:
    """The picture, a whole number of times larger so that it is at least `LEGIBLE` pixels high, with these marks, all
    of which belong to it: a ring with a dot for a point, a box for a box; its order or its object's name beside it,
    where there is room for it."""
    factor = -(-LEGIBLE // len(picture))
    size = picture.shape[1] * factor, len(picture) * factor
    image = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    frames = [_draw(draw, mark, size) for mark in marks]
    taken: list[Frame] = []
    for mark, frame in zip(marks, frames, strict=True):
        taken += _tag(draw, mark, frame, size, taken)
    return np.asarray(image)


def _draw(draw: ImageDraw.ImageDraw, mark: Mark, size: tuple[int, int]) -> Frame:
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
    return x - across - line, y - up - line, x + across + line, y + up + line


def _tag(
    draw: ImageDraw.ImageDraw, mark: Mark, frame: Frame, size: tuple[int, int], taken: Sequence[Frame]
) -> list[Frame]:  # fmt: skip
    """Where the text was written, if there is any and a corner of the frame has room for it."""
    text = str(mark.order) if mark.order else "" if mark.role in COLOURS else mark.role
    if not text:
        return []
    font = ImageFont.load_default(round(TEXT * size[1]))
    _, _, long, high = draw.textbbox((0, 0), text, font=font, stroke_width=2)
    for x in (frame[2], frame[0] - long):
        for y in (max(frame[1], 0), min(frame[3], size[1]) - high):
            place = (x, y, x + long, y + high)
            inside = x >= 0 and place[2] <= size[0]
            if inside and not any(_overlap(place, other) for other in taken):
                draw.text((x, y), text, font=font, fill=colour_of(mark), stroke_width=2, stroke_fill=HALO)
                return [place]
    return []


def _overlap(first: Frame, second: Frame) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
