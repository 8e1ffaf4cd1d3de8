"""RGB pictures to mp4 and back, any frame at nearly the price of one. The only door to PyAV.

Files are read whole and kept compressed; a frame is decoded from the key frame before it, without seeking.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from jaxtyping import Float64, UInt8

from volar.core.errors import ConfigError

# A key frame every second picture and no bidirectional ones: a random read decodes at most two pictures.
CODEC: Final = "libx264"
GROUP: Final = 2
OPTIONS: Final = {"preset": "veryfast", "crf": "18"}


def encode_video(frames: UInt8[np.ndarray, "t h w 3"], fps: int | float) -> bytes:
    """An mp4 (H.264, yuv420p) of the frames. Height and width must be even; raises ConfigError otherwise."""
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ConfigError(
            f"A video needs even sides (yuv420p), got {height} x {width}; use an even size or image storage."
        )
    if CODEC not in av.codecs_available:
        raise ConfigError(f"This PyAV has no {CODEC} encoder; install the wheel from PyPI or use image storage.")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(CODEC, rate=Fraction(fps).limit_denominator(1001), options=OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.gop_size, context.max_b_frames, context.thread_count = GROUP, 0, 1
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def require_whole(path: Path) -> None:
    """Walk the top-level boxes of an mp4: ConfigError if it is missing, cut short or no mp4. Takes microseconds."""
    if not path.is_file():
        raise ConfigError(f"The video {path} is missing; the data set is incomplete, copy it again.")
    size, position, seen = path.stat().st_size, 0, set()
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            header = file.read(16)
            if len(header) < 8:
                break
            length, kind = struct.unpack(">I4s", header[:8])
            if length == 1 and len(header) == 16:
                length = struct.unpack(">Q", header[8:])[0]
            if length == 0:
                length = size - position
            if length < 8 or position + length > size:
                raise ConfigError(f"The video {path} is truncated or corrupt at byte {position} of {size}.")
            seen.add(kind)
            position += length
    if not {b"moov", b"mdat"} <= seen:
        raise ConfigError(f"The video {path} is truncated or not an mp4: it has no index (moov) or no data (mdat).")


class VideoFile:
    """One mp4 in memory, compressed. Not shared between threads; safe to fork.

    times: presentation time of every frame in seconds, ascending. checksum: the CRC-32 it must have, if known.
    """

    def __init__(self, path: Path, checksum: int | None = None) -> None:
        self.path = path
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"The video {path} cannot be read: {error.strerror}.") from error
        if checksum is not None and zlib.crc32(content) != checksum:
            raise ConfigError(f"The video {path} is not what was recorded (checksum differs); copy it again.")
        self.num_bytes = len(content)
        try:
            with av.open(io.BytesIO(content)) as container:
                stream = container.streams.video[0]
                context, base = stream.codec_context, stream.time_base
                self._packets = [packet for packet in container.demux(stream) if packet.size and packet.pts is not None]
                name, extradata = context.codec.name, context.extradata
            self._decoder = av.CodecContext.create(name, "r")
        except (av.FFmpegError, IndexError) as error:
            raise ConfigError(f"The video {path} is truncated or corrupt: {error}.") from error
        self._decoder.extradata = extradata
        self._decoder.thread_count = 1  # frame threads would delay every random read by their number
        self._reformatter = av.video.reformatter.VideoReformatter()
        pts = np.array([packet.pts for packet in self._packets], dtype=np.int64)
        if not len(pts) or base is None:
            raise ConfigError(f"The video {path} holds no frames.")
        self._order = np.argsort(pts, kind="stable")
        self._pts = pts[self._order]
        keys = np.array([packet.is_keyframe for packet in self._packets])
        self._key_packets = np.flatnonzero(keys)
        self._key_pts = pts[self._key_packets]
        self.times: Float64[np.ndarray, " n"] = self._pts * float(base)

    def frames_at(self, times: Float64[np.ndarray, " m"], fps: int | float) -> list[int]:
        """Positions of the frames shown at `times`; ConfigError when one is off by over a quarter of a frame."""
        right = np.clip(np.searchsorted(self.times, times), 1, max(len(self.times) - 1, 1))
        right = np.minimum(right, len(self.times) - 1)
        left = np.maximum(right - 1, 0)
        nearest = np.where(np.abs(self.times[left] - times) <= np.abs(self.times[right] - times), left, right)
        off = np.abs(self.times[nearest] - times)
        if (off * fps > 0.25).any():
            worst = int(off.argmax())
            raise ConfigError(
                f"The video {self.path} has no frame at {times[worst]:.4f} s (nearest: "
                f"{self.times[nearest[worst]]:.4f} s): its frame rate differs from the data set's {fps:g} a second, "
                f"or it is cut short."
            )
        return nearest.tolist()

    def decode(self, positions: Sequence[int]) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
        """The pictures at `positions` in order of display. Raises ConfigError for damaged data."""
        groups: dict[int, list[int]] = {}
        for position in positions:
            started = np.flatnonzero(self._key_pts <= self._pts[position])
            if not len(started):
                raise ConfigError(f"The video {self.path} has no key frame before frame {position}; it is corrupt.")
            groups.setdefault(int(self._key_packets[started[-1]]), []).append(position)
        pictures: dict[int, np.ndarray] = {}
        for start, wanted in groups.items():
            pictures |= self._decode_group(start, wanted)
        return pictures

    def _decode_group(self, start: int, wanted: list[int]) -> dict[int, np.ndarray]:
        """Everything a frame refers to lies between its key frame and itself in the order of decoding."""
        position_of = {int(self._pts[position]): position for position in wanted}
        last = max(int(self._order[position]) for position in wanted)
        pictures: dict[int, np.ndarray] = {}
        try:
            for packet in [*self._packets[start : last + 1], None]:
                for frame in self._decoder.decode(packet):
                    position = position_of.get(-1 if frame.pts is None else frame.pts)
                    if position is not None:
                        pictures[position] = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        except av.FFmpegError as error:
            raise ConfigError(f"The video {self.path} is corrupt near frame {wanted[0]}: {error}.") from error
        finally:
            self._decoder.flush_buffers()
        if len(pictures) != len(position_of):
            missing = sorted(set(wanted) - pictures.keys())
            raise ConfigError(f"The video {self.path} is corrupt: frame {missing[0]} cannot be decoded.")
        return pictures
