"""How single pictures are stored in a data set's image columns: PNG keeps every bit, JPEG is smaller and reads faster.

Not for film; that is `video.py`.
"""

import io
from fractions import Fraction
from typing import Any, Final, Literal

import av
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


def encode_pictures(frames: UInt8[np.ndarray, "t h w 3"], coding: Coding) -> list[bytes]:
    """The bytes of a PNG or JPEG file for every frame."""
    return _pngs(frames) if coding == "png" else [_jpeg(frame) for frame in frames]


def _pngs(frames: UInt8[np.ndarray, "t h w 3"]) -> list[bytes]:
    """By FFmpeg: half the time of Pillow, which tries every filter on every line."""
    codec = av.CodecContext.create("png", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.height, codec.width = frames.shape[1:3]
    codec.pix_fmt, codec.time_base, codec.thread_count = "rgb24", Fraction(1), 1
    codec.options = {"pred": "up", "compression_level": "1"}
    files = []
    for number, picture in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts = number
        files += map(bytes, codec.encode(frame))
    return files + [bytes(packet) for packet in codec.encode(None)]


def _jpeg(frame: UInt8[np.ndarray, "h w 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=QUALITY, subsampling=_chroma(*frame.shape[:2]))
    return buffer.getvalue()


def coding_of(content: bytes) -> str:
    """The file ending that belongs to a picture: "jpg", or "png" for everything else that an image column may hold."""
    return "jpg" if content.startswith(JPEG_HEAD) else "png"


def _chroma(height: int, width: int) -> str:
    return "4:4:4" if max(height, width) <= FULL_COLOUR_SIDE else "4:2:0"
