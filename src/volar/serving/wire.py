"""Messages between a policy's process and a robot's: msgpack with numpy arrays, never pickle.

The framing is openpi's (an array is a map with __ndarray__, data, dtype and shape), so its clients can speak to our
server; keys are accepted as bytes, as openpi writes them, and as text.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from volar.core.errors import EpisodeError

PROTOCOL = "volar/1"
LARGEST = 64 * 2**20  # bytes of one message
KINDS = "biuf"  # kinds of numbers that may travel; objects and strings may not


def pack(message: Mapping[str, Any]) -> bytes:
    """Texts, numbers, lists, maps and arrays. TypeError for anything else."""
    return msgpack.Packer(default=_array).pack(dict(message))


def unpack(data: bytes) -> dict[str, Any]:
    """Raises EpisodeError for what is no message: damage, foreign types, an array whose size does not fit its bytes."""
    if len(data) > LARGEST:
        raise EpisodeError(f"A message has {len(data)} bytes; at most {LARGEST} are taken.")
    try:
        message = msgpack.unpackb(data, object_hook=_object, raw=False)  # keys are texts or bytes
    except EpisodeError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise EpisodeError(f"A message of {len(data)} bytes is not msgpack as agreed ({error}).") from error
    if not isinstance(message, dict):
        raise EpisodeError(f"A message is a map, got {type(message).__name__}.")
    return message


def _array(value: object) -> dict[bytes, Any]:
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in KINDS:
        raise TypeError(f"Cannot send {type(value).__name__}: only texts, numbers, lists, maps and arrays of numbers.")
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": list(value.shape)}


def _object(content: dict[Any, Any]) -> Any:
    named = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
    if "__ndarray__" in named or "__npgeneric__" in named:
        return _read(named.get("dtype"), named.get("data"), named.get("shape", []))
    return named


def _read(dtype: Any, data: Any, shape: Any) -> np.ndarray:
    kind = np.dtype(dtype.decode() if isinstance(dtype, bytes) else str(dtype))
    if kind.kind not in KINDS:
        raise EpisodeError(f"An array of type {kind} may not travel; expected numbers.")
    if not isinstance(shape, list) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise EpisodeError(f"An array's shape is a list of sizes, got {shape!r}.")
    if isinstance(data, int | float) and not shape:
        return np.asarray(data, dtype=kind)
    expected = math.prod(shape) * kind.itemsize
    if not isinstance(data, bytes) or expected != len(data):
        came = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise EpisodeError(f"An array {shape} of {kind} has {expected} bytes, got {came}.")
    return np.frombuffer(data, dtype=kind).reshape(tuple(shape))
