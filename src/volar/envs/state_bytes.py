"""Named numbers and arrays as bytes and back, exactly, type included. No pickle: reading runs no code."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

Value = np.ndarray | np.generic | bool | int | float | None
NUMBERS: dict[str, type] = {"bool": bool, "int": int, "float": float}


def pack(label: str, values: Mapping[str, Value]) -> bytes:
    """`label` says whose state it is. A header in JSON (names, types, shapes), then the raw numbers."""
    header, parts = [], []
    for name, value in values.items():
        if value is None:
            header.append((name, "none", "<f8", (0,)))
            continue
        array = np.asarray(value)
        kind = type(value).__name__ if type(value).__name__ in NUMBERS else "array"
        header.append((name, kind, array.dtype.str, array.shape))
        parts.append(array.tobytes())
    described = json.dumps([label, header]).encode()
    return len(described).to_bytes(4, "little") + described + b"".join(parts)


def label_of(state: bytes) -> str:
    """The label alone. Raises ValueError for bytes that `pack` did not make."""
    return _header(state)[0]


def unpack(state: bytes) -> dict[str, Value]:
    """The values as they were packed; arrays are copies that may be written to."""
    _, header = _header(state)
    values: dict[str, Value] = {}
    position = 4 + int.from_bytes(state[:4], "little")
    for name, kind, dtype, shape in header:
        count = int(np.prod(shape))
        array = np.frombuffer(state, dtype, count, position).reshape(shape).copy()
        position += array.nbytes
        # A zero-dimensional numpy value comes back as a numpy scalar, as which it went in.
        values[name] = None if kind == "none" else NUMBERS[kind](array[()]) if kind in NUMBERS else array[()]
    return values


def _header(state: bytes) -> list[Any]:
    """[label, [[name, kind, dtype, shape], ...]]"""
    return json.loads(state[4 : 4 + int.from_bytes(state[:4], "little")])
