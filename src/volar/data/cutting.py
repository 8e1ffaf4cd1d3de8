"""Cuts an episode's film out of an mp4 that holds several, without decoding or encoding a picture."""

import io
from collections.abc import Iterator
from pathlib import Path

import av

from volar.core.errors import ConfigError


def cut_video(path: Path, start: float, length: int, fps: int | float) -> bytes | None:
    """An mp4 of the `length` frames from `start` (seconds) on: the file itself if it holds nothing else, else their
    compressed data in a new container, beginning at time 0.

    None if these frames cannot be shown without others: no key frame at `start`, or one that refers beyond the last.
    Raises ConfigError for a damaged file.
    """
    try:
        with av.open(str(path), "r", metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            base = stream.time_base
            if base is None:
                raise ConfigError(f"The video {path} holds no frames.")
            first, end = (start - 0.25 / fps) / float(base), (start + (length - 0.5) / fps) / float(base)
            if stream.frames == length and start == 0.0:
                return path.read_bytes()
            container.seek(max(int(first), 0), stream=stream)
            packets = _between(container.demux(stream), first, end)
            if packets is None or len(packets) != length:
                return None
            return _in_container(stream, packets)
    except (av.FFmpegError, IndexError, OSError) as error:
        raise ConfigError(f"The video {path} is missing, truncated or corrupt: {error}.") from error


def _between(demuxed: Iterator[av.Packet], first: float, end: float) -> list[av.Packet] | None:
    """The packets from the key frame at `first` until one shown at or after `end`, in order of decoding."""
    packets: list[av.Packet] = []
    for packet in demuxed:
        if packet.pts is None or packet.dts is None:
            continue
        if packets and packet.pts >= end:
            break
        if packets or packet.pts >= first:
            packets.append(packet)
    begin = _time(packets[0]) if packets else 0
    return packets if packets and packets[0].is_keyframe and all(_time(each) >= begin for each in packets) else None


def _in_container(template: av.VideoStream, packets: list[av.Packet]) -> bytes:
    buffer, begin = io.BytesIO(), _time(packets[0])
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream_from_template(template, opaque=True)  # not asking for an encoder of the codec
        for packet in packets:
            packet.pts, packet.dts = _time(packet) - begin, (packet.dts or 0) - begin
            packet.stream = stream
            container.mux(packet)
    return buffer.getvalue()


def _time(packet: av.Packet) -> int:
    assert packet.pts is not None
    return packet.pts
