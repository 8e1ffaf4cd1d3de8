"""Data sets at any fsspec URL: s3://, gs://, hf://, https://, memory://, zip::... The only door to fsspec.

Files are copied whole, when they are first read, into a bounded folder that processes and later runs share. A file that
changed at its source has another name there. Nothing is ever written to the source.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.core import url_to_fs

from volar.core.errors import ConfigError
from volar.data.cache import Recent
from volar.data.store import OUTLINE_BYTES, Store, require_inside

Value = TypeVar("Value")
KNOWN_FILES = 4096  # whose place in the folder a process remembers
PARTIAL = ".partial"
COPIES = "volar-copies"  # a folder of its own, as old files in it are deleted
LOOKS = 20  # at the folder's size, while as much is copied as may lie there


class RemoteStore(Store):
    """folder: where copies are kept. max_bytes: of all copies there, to a twentieth per process; the newest stays."""

    def __init__(self, url: str, *, folder: Path, max_bytes: int) -> None:
        self.root = url.rstrip("/")
        self._folder, self._max_bytes = folder / COPIES, max_bytes
        self._unseen = max_bytes  # bytes that were added to the folder since it was last looked at
        self._top = _asked(url, lambda: url_to_fs(url)[1]).rstrip("/")
        self._copies: Recent[Path] = Recent(KNOWN_FILES)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.root, self._folder.parent, self._max_bytes)

    def files(self, under: str = "") -> tuple[str, ...]:
        top = self._remote(under)
        found = self._ask(under, lambda fs: fs.find(top) if fs.isdir(top) else [])
        return tuple(sorted(name.removeprefix(self._top).lstrip("/") for name in found))

    def exists(self) -> bool:
        return self._ask("", lambda fs: fs.exists(self._top))

    def has(self, name: str) -> bool:
        remote = self._remote(name)
        return self._ask(name, lambda fs: fs.isfile(remote))

    def path(self, name: str) -> Path:
        copy = self._copies.get(name, lambda: self._copied(name), lambda _: 1)
        if not copy.exists():  # another process needed the room
            copy = self._copied(name)
        os.utime(copy)
        return copy

    def outline(self, name: str) -> bytes:
        remote = self._remote(name)
        size = self._ask(name, lambda fs: fs.size(remote))
        if size is None:
            raise ConfigError(f"{self.place(name)} has no known size; copy the data set and open the copy.")

        def part(start: int, end: int) -> bytes:
            content = self._ask(name, lambda fs: fs.cat_file(remote, start=start, end=end))
            assert isinstance(content, bytes)
            return content

        ends = part(0, min(OUTLINE_BYTES, size)) + part(max(size - OUTLINE_BYTES, 0), size)
        return str(size).encode() + ends

    def _copied(self, name: str) -> Path:
        """The file's copy, made now if there is none of its present state."""
        remote = self._remote(name)
        if not self.has(name):
            raise ConfigError(f"{self.place(name)} is missing; the data set is incomplete.")
        state = self._ask(name, lambda fs: f"{fs.ukey(remote)}{fs.size(remote)}")
        key = hashlib.sha256(f"{self.root}\n{state}".encode()).hexdigest()[:16]
        # Its name stays readable, for messages about what is wrong with its content.
        copy = self._folder / key / (name or "file")
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            partial = copy.with_name(f"{copy.name}.{os.getpid()}{PARTIAL}")
            self._ask(name, lambda fs: fs.get_file(remote, str(partial)))
            size = self._ask(name, lambda fs: fs.size(remote))
            if size is not None and partial.stat().st_size != size:
                raise ConfigError(f"{self.place(name)} came as {partial.stat().st_size} of {size} bytes; try again.")
            partial.replace(copy)
            self._make_room(copy)
        return copy

    def _make_room(self, newest: Path) -> None:
        """Delete the copies that were used longest ago, if many bytes were added since the last look."""
        self._unseen += newest.stat().st_size
        if self._unseen * LOOKS < self._max_bytes:
            return
        found, self._unseen = [], 0
        for path in self._folder.rglob("*"):
            if path.is_file():
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._max_bytes:
                return
            if path != newest and path.suffix != PARTIAL:
                path.unlink(missing_ok=True)
                total -= size

    def _remote(self, name: str) -> str:
        inside = require_inside(name, self.root)
        return f"{self._top}/{inside}" if inside else self._top

    def _ask(self, name: str, question: Callable[[fsspec.AbstractFileSystem], Value]) -> Value:
        # Asked for anew each time: fsspec keeps one per process, and one from before a fork does not work.
        return _asked(self.place(name), lambda: question(url_to_fs(self.root)[0]))


def _asked(place: str, question: Callable[[], Value]) -> Value:
    """The answer of a source that may be unknown, missing, slow or closed to us."""
    try:
        return question()
    except FileNotFoundError as error:
        raise ConfigError(f"{place} is missing; the data set is incomplete.") from error
    except ImportError as error:
        raise ConfigError(f"{place} cannot be read: {error}.") from error
    except (OSError, ValueError) as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        raise ConfigError(f"{place} cannot be read: {reason}.") from error


def _reopened(url: str, folder: Path, max_bytes: int) -> RemoteStore:
    return RemoteStore(url, folder=folder, max_bytes=max_bytes)
