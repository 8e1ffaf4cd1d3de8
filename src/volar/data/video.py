"""RGB pictures to mp4 and back, any frame at nearly the price of one. A door to PyAV.

Files are read whole and kept compressed; a frame is decoded from the key frame before it, without seeking.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import av.video.reformatter
import numpy as np
from jaxtyping import Float64, UInt8

from volar.core.errors import ConfigError
from volar.data.cache import Recent

# A key frame every second picture and no bidirectional ones: a random read decodes at most two pictures.
CODEC: Final = "libx264"
GROUP: Final = 2
MAX_CODECS: Final = 8  # open decoders; files of one recording share one
# Without look-ahead, which two-picture groups have no use for and which makes tiny pictures differ from run to run.
OPTIONS: Final = {"preset": "veryfast", "tune": "fastdecode", "crf": "14", "x264-params": "mbtree=0:rc-lookahead=0"}


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
        convert = av.video.reformatter.VideoReformatter()
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(convert.reformat(frame, format="yuv420p", threads=1)))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def browsers_play(content: bytes, fps: int | float) -> bool:
    """Whether an mp4 holds `fps` pictures a second in a form that browsers decode (H.264, VP9 or AV1,
    8 bits, 4:2:0). False too for what cannot be read."""
    try:
        with av.open(io.BytesIO(content), "r", metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            rate, codec = stream.average_rate, stream.codec_context
            if codec is None:  # the type stubs do not know this
                return False
            known = codec.codec.canonical_name in ("h264", "vp9", "av1") and codec.pix_fmt in ("yuv420p", "yuvj420p")
            return known and rate is not None and abs(float(rate) / fps - 1) < 1e-3
    except (av.FFmpegError, IndexError):
        return False


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
    """One mp4 in memory, compressed; `VideoDecoder` makes pictures of it.

    times: presentation time of every frame in seconds, ascending. checksum: the CRC-32 it must have, if known.
    compression: "h264", "av1", ..., whichever program decodes it.
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
            # Texts that are not UTF-8 are no reason to refuse pictures.
            with av.open(io.BytesIO(content), "r", metadata_errors="ignore") as container:
                stream = container.streams.video[0]
                context, base = stream.codec_context, stream.time_base
                if context is None:  # the type stubs do not know this
                    raise ConfigError(f"The video {path} is corrupt, or in a form that this PyAV cannot decode.")
                demuxed = [packet for packet in container.demux(stream) if packet.size and packet.pts is not None]
                self.codec, self.extradata = context.codec.name, context.extradata
                self.compression = context.codec.canonical_name
        except (av.FFmpegError, IndexError) as error:
            raise ConfigError(f"The video {path} is truncated or corrupt: {error}.") from error
        pts = np.array([packet.pts for packet in demuxed], dtype=np.int64)
        if not len(pts) or base is None:
            raise ConfigError(f"The video {path} holds no frames.")
        self._order = np.argsort(pts, kind="stable")
        self._pts = pts[self._order]
        self._key_packets = np.flatnonzero([packet.is_keyframe for packet in demuxed])
        self._key_pts = pts[self._key_packets]
        self._packets = [_bare(packet) for packet in demuxed]
        self.times: Float64[np.ndarray, " n"] = self._pts * float(base)

    @property
    def key_frame_every(self) -> float:
        """Frames from one key frame to the next, on average."""
        return len(self.times) / max(len(self._key_packets), 1)

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

    def groups(self, positions: Sequence[int]) -> Iterator[tuple[dict[int, int], list[av.Packet]]]:
        """For every key frame that `positions` need: wanted pts -> position, and the packets that lead to them.

        Everything a frame refers to lies between its key frame and itself in the order of decoding.
        """
        wanted: dict[int, list[int]] = {}
        for position in positions:
            started = np.flatnonzero(self._key_pts <= self._pts[position])
            if not len(started):
                raise ConfigError(f"The video {self.path} has no key frame before frame {position}; it is corrupt.")
            wanted.setdefault(int(self._key_packets[started[-1]]), []).append(position)
        for start, group in wanted.items():
            last = max(int(self._order[position]) for position in group)
            yield {int(self._pts[position]): position for position in group}, self._packets[start : last + 1]


def _bare(packet: av.Packet) -> av.Packet:
    """The compressed data without the container that they came from, which would stay in memory."""
    bare = av.Packet(bytes(packet))
    bare.pts, bare.dts = packet.pts, packet.dts
    return bare


class VideoDecoder:
    """Codecs and colour conversion, shared by all files of a kind: each costs megabytes. For one thread of one process;
    may be used on both sides of a fork, since it has no threads of its own."""

    def __init__(self) -> None:
        self._codecs: Recent[av.VideoCodecContext] = Recent(MAX_CODECS)
        self._convert = av.video.reformatter.VideoReformatter()

    def decode(self, video: VideoFile, positions: Sequence[int]) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
        """The pictures at `positions` in order of display. Raises ConfigError for damaged data."""
        codec = self._codecs.get((video.codec, video.extradata), lambda: _open_codec(video), lambda codec: 1)
        pictures: dict[int, np.ndarray] = {}
        try:
            for position_of, packets in video.groups(positions):
                for packet in (*packets, None):
                    for frame in codec.decode(packet):
                        position = position_of.get(-1 if frame.pts is None else frame.pts)
                        if position is not None:
                            pictures[position] = self._convert.reformat(frame, format="rgb24", threads=1).to_ndarray()
                codec.flush_buffers()
        except av.FFmpegError as error:
            codec.flush_buffers()
            raise ConfigError(f"The video {video.path} is corrupt: {error}.") from error
        if missing := sorted(set(positions) - pictures.keys()):
            raise ConfigError(f"The video {video.path} is corrupt: frame {missing[0]} cannot be decoded.")
        return pictures


def _open_codec(video: VideoFile) -> av.VideoCodecContext:
    codec = av.CodecContext.create(video.codec, "r")
    assert isinstance(codec, av.VideoCodecContext)
    codec.extradata = video.extradata
    codec.thread_count = 1  # frame threads would delay every random read by their number
    return codec
