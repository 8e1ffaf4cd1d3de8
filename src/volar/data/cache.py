"""Bounded memories for reading: recently used objects up to a number of bytes, and pictures once decoded.

Nothing here decides what is right; losing every entry changes speed only.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Bool, Int, UInt8

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Least recently used entries leave when the sum of their sizes exceeds `max_bytes`; the newest always stays."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._entries: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value], size: Callable[[Value], int]) -> Value:
        """The entry of `key`, made now if it is not there."""
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key][0]
        value = make()
        self._entries[key] = (value, size(value))
        self.num_bytes += self._entries[key][1]
        while self.num_bytes > self.max_bytes and len(self._entries) > 1:
            self.num_bytes -= self._entries.popitem(last=False)[1][1]
        return value


class DecodedFrames:
    """One camera's pictures, each kept from the moment it was first decoded.

    In memory, or with `folder` in a memory-mapped file that processes and later runs share; `key` names its content.
    """

    def __init__(self, num_frames: int, height: int, width: int, *, folder: Path | None = None, key: str = "") -> None:
        shape = (num_frames, height, width, 3)
        if folder is None:
            self._frames = np.zeros(shape, np.uint8)  # pages are taken from the system only when written
            self._present = np.zeros(num_frames, np.bool_)
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._frames = _mapped(folder / f"{key}.frames", np.uint8, shape)
        self._present = _mapped(folder / f"{key}.present", np.bool_, (num_frames,))

    def missing(self, indices: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        return ~self._present[indices]

    def put(self, index: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        self._frames[index] = picture
        self._present[index] = True  # after the picture: a killed process leaves it merely absent

    def take(self, indices: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n h w 3"]:
        return self._frames[indices]


def _mapped(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """A file of zeros (sparse on disk), created if absent; never shortened, as another process may have mapped it."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with path.open("ab") as file:
        if file.tell() < size:
            file.truncate(size)
    return np.memmap(path, dtype, "r+", shape=shape)
