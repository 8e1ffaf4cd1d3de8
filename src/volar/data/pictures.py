"""How single pictures are stored in a data set's image columns: PNG keeps every bit, JPEG is smaller and reads faster.

Not for film; that is `video.py`.
"""

import io
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Coding = Literal["png", "jpeg"]
QUALITY: Final = 95
FULL_COLOUR_SIDE: Final = 320  # pixels; up to here a thin coloured object is a few pixels wide, so colour is kept whole
JPEG_HEAD: Final = b"\xff\xd8\xff"


def picture_facts(coding: Coding, height: int, width: int) -> dict[str, Any]:
    """What a feature's `info` says of how its pictures are stored; empty for PNG, which has nothing to say."""
    if coding == "png":
        return {}
    return {"image.codec": "jpeg", "image.quality": QUALITY, "image.chroma": _chroma(height, width)}


def encode_picture(frame: UInt8[np.ndarray, "h w 3"], coding: Coding) -> bytes:
    """The bytes of a PNG or JPEG file."""
    buffer = io.BytesIO()
    if coding == "png":
        Image.fromarray(frame).save(buffer, "PNG", compress_level=1)
    else:
        Image.fromarray(frame).save(buffer, "JPEG", quality=QUALITY, subsampling=_chroma(*frame.shape[:2]))
    return buffer.getvalue()


def coding_of(content: bytes) -> str:
    """The file ending that belongs to a picture: "jpg", or "png" for everything else that an image column may hold."""
    return "jpg" if content.startswith(JPEG_HEAD) else "png"


def _chroma(height: int, width: int) -> str:
    return "4:4:4" if max(height, width) <= FULL_COLOUR_SIDE else "4:2:0"
