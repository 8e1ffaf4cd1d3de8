"""TFRecord files and the `tf.train.Example` messages in them, without TensorFlow: framing, checksums, wire format.

Not a protobuf library: exactly this one message, and everything else is refused. Layout: tensorflow/core/lib/io/
record_writer.h (length, masked CRC-32C of it, content, masked CRC-32C of that) and core/example/feature.proto.
"""

import mmap
import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import google_crc32c
import numpy as np
from jaxtyping import Float32, Int64, UInt32

from volar.core.errors import ConfigError

Values = list[memoryview] | Float32[np.ndarray, "_"] | Int64[np.ndarray, "_"]

_HEADER: Final = struct.Struct("<QI")
_FOOTER: Final = struct.Struct("<I")
_MASK: Final = 0xA282EAD8
_VARINT, _BYTES, _FIXED32 = 0, 2, 5  # wire types
_LONGEST_VARINT: Final = 10  # bytes of a 64-bit number


@dataclass(frozen=True, kw_only=True, eq=False)
class Records:
    """Where the records of one file lie, in bytes; `checksums` are those stored behind them, not yet compared.

    The file itself is given again to read from it, as a copy of a remote file may have moved; `where` names it.
    """

    where: str
    offsets: Int64[np.ndarray, " n"]
    lengths: Int64[np.ndarray, " n"]
    checksums: UInt32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.offsets)

    def peek(self, path: Path) -> Iterator[memoryview]:
        """Every record in order, mapped instead of read and not compared with its checksum: only for a first look."""
        if not len(self):
            return
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        for offset, length in zip(self.offsets.tolist(), self.lengths.tolist(), strict=True):
            yield content[offset : offset + length]

    def read(self, path: Path, index: int) -> bytes:
        """The content of a record. Raises ConfigError naming file and record if it is not what was written."""
        with path.open("rb") as file:
            file.seek(int(self.offsets[index]))
            content = file.read(int(self.lengths[index]))
        if len(content) != self.lengths[index] or _masked_checksum(content) != self.checksums[index]:
            raise ConfigError(
                f"{self.where}: record {index} is not what was written (checksum differs); copy it again."
            )
        return content


def index_records(path: Path, where: str) -> Records:
    """Find the records of a file by hopping from length to length; their contents are not read.

    Raises ConfigError naming `where` if the file ends within a record, or a length is not what was written.
    """
    places: list[tuple[int, int, int]] = []
    size, position = path.stat().st_size, 0
    with path.open("rb", buffering=0) as file:
        while position < size:
            file.seek(position)
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise ConfigError(f"{where} is truncated: it ends within the header of record {len(places)}.")
            length, checksum = _HEADER.unpack(header)
            if checksum != _masked_checksum(header[:8]):
                raise ConfigError(f"{where} is corrupt at byte {position}: no TFRecord begins there.")
            position += _HEADER.size + length
            if position + _FOOTER.size > size:
                raise ConfigError(f"{where} is truncated: record {len(places)} needs {length} bytes.")
            file.seek(position)
            places.append((position - length, length, _FOOTER.unpack(file.read(_FOOTER.size))[0]))
            position += _FOOTER.size
    table = np.array(places, dtype=np.int64).reshape(-1, 3)
    return Records(where=where, offsets=table[:, 0], lengths=table[:, 1], checksums=table[:, 2].astype(np.uint32))


def _masked_checksum(content: bytes) -> int:
    """CRC-32C, rotated and shifted so that a checksum of checksums stays a good one."""
    plain = google_crc32c.value(content)
    return ((plain >> 15 | plain << 17) + _MASK) & 0xFFFFFFFF


def parse_example(content: bytes | memoryview, wanted: Container[str | None]) -> dict[str, Values]:
    """The wanted features of a serialised Example: bytes as views into `content`, numbers as flat arrays.

    A feature without a kind (an optional one left out) is absent. Raises ValueError if `content` is no such message.
    """
    found: dict[str, Values] = {}
    for features in _only(memoryview(content), 1):
        for entry in _only(features, 1):
            parts = {field: value for field, _, value in _fields(entry)}
            name = bytes(parts.get(1, b"")).decode()
            if name in found:
                raise ValueError(f"feature {name!r} occurs twice")
            if name in wanted and len(parts.get(2, b"")):
                found[name] = _values(parts[2])
    return found


def _values(feature: memoryview) -> Values:
    """The list in a Feature: 1 bytes, 2 floats, 3 integers."""
    kinds = list(_fields(feature))
    if len(kinds) != 1 or kinds[0][1] != _BYTES:
        raise ValueError("a feature must hold exactly one list")
    kind, _, content = kinds[0]
    if kind == 1:
        return _only(content, 1)
    if kind == 2:
        return np.frombuffer(_packed(content, _FIXED32), dtype="<f4")
    if kind == 3:
        return _integers(np.frombuffer(_packed(content, _VARINT), np.uint8))
    raise ValueError(f"a feature has the unknown kind {kind}")


def _packed(content: memoryview, single: int) -> bytes | memoryview:
    """The numbers of a list one after another; a writer may pack them, in one piece or more, or not."""
    pieces = []
    for field, wire, value in _fields(content):
        if field != 1 or wire not in (_BYTES, single):
            raise ValueError(f"a list of numbers holds field {field} of wire type {wire}")
        pieces.append(value)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _integers(content: np.ndarray) -> Int64[np.ndarray, " n"]:
    """Varints: seven bits a byte, lowest first, the highest bit set in all but the last byte of a number."""
    last = content < 0x80
    if last.all():
        return content.astype(np.int64)
    if not last[-1]:
        raise ValueError("a list of integers ends within a number")
    stops = np.flatnonzero(last) + 1
    starts = np.concatenate([[0], stops[:-1]])
    if (stops - starts).max() > _LONGEST_VARINT:
        raise ValueError("an integer has more than 64 bits")
    place = np.arange(len(content)) - np.repeat(starts, stops - starts)
    bits = (content & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(bits, starts).view(np.int64)


def _only(message: memoryview, wanted: int) -> list[memoryview]:
    """All values of a message that may hold nothing but the length-delimited field `wanted`."""
    values = []
    for field, wire, value in _fields(message):
        if (field, wire) != (wanted, _BYTES):
            raise ValueError(f"unexpected field {field} of wire type {wire}")
        values.append(value)
    return values


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Number, wire type and raw value of every field."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        wire, start = tag & 7, position
        if wire == _VARINT:
            _, position = _varint(message, position)
        elif wire == _FIXED32:
            position += 4
        elif wire == _BYTES:
            length, start = _varint(message, position)
            position = start + length
        else:
            raise ValueError(f"unknown wire type {wire}")
        if position > len(message):
            raise ValueError("a field is longer than its message")
        yield tag >> 3, wire, message[start:position]


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number and the position behind it."""
    number = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        if position >= len(message):
            raise ValueError("a message ends within a number")
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("a number has more than 64 bits")
