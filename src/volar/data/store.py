"""Where a data set's files lie, read-only: names relative to one root go in, local files or bytes come out.

Nothing outside the root is ever read, whatever a file name, a path template or a symbolic link says.
"""

import os
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath

from volar.core.errors import ConfigError

OUTLINE_BYTES = 65536  # of either end of a file


class Store(ABC):
    """One root. Names are relative to it, with "/" between their parts; "" is the root itself, if it is a file.

    root: as the user gave it, for messages.
    """

    root: str

    @abstractmethod
    def files(self, under: str = "") -> tuple[str, ...]:
        """Names of all files under a folder, sorted; none if there is no such folder."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is anything at the root."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether that file is there."""

    @abstractmethod
    def path(self, name: str) -> Path:
        """The file on this machine. Raises ConfigError if it is missing, or lies outside the root."""

    @abstractmethod
    def outline(self, name: str) -> bytes:
        """Size, first and last bytes of a file: cheap, and different for any two videos that occur in practice."""

    def place(self, name: str) -> str:
        """The name with its root, for messages."""
        return f"{self.root}/{name}" if name else self.root

    def text(self, name: str) -> str:
        """The content of a small file. Raises ConfigError if it is not UTF-8."""
        try:
            return self.path(name).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{self.place(name)} is corrupt: it is not UTF-8 ({error.reason} at {error.start})."
            ) from error


def open_store(root: str | Path, *, copies: Path | None = None, copied_bytes: int = 50 * 2**30) -> Store:
    """The store of a local folder or file, or of an fsspec URL.

    copies: where files of a URL are copied to, ~/.cache/volar/data by default; safe to delete. copied_bytes: of them.
    """
    text = str(root)
    if text.startswith("file://"):
        return LocalStore(Path(text.removeprefix("file://")))
    if "://" not in text and "::" not in text:
        return LocalStore(Path(root))
    from volar.data.remote import RemoteStore  # only here is fsspec needed

    return RemoteStore(text, folder=copies or Path.home() / ".cache/volar/data", max_bytes=copied_bytes)


class LocalStore(Store):
    """A folder, or a single file, on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self._folder = root
        self._real = Path(os.path.realpath(root))

    def files(self, under: str = "") -> tuple[str, ...]:
        top = self._folder / require_inside(under, self.root)
        found = (Path(folder, file) for folder, _, files in os.walk(top) for file in files)
        return tuple(sorted(path.relative_to(self._folder).as_posix() for path in found))

    def exists(self) -> bool:
        return self._folder.exists()

    def has(self, name: str) -> bool:
        return (self._folder / require_inside(name, self.root)).is_file()

    def path(self, name: str) -> Path:
        path = self._folder / require_inside(name, self.root)
        real = os.path.realpath(path)
        if Path(real) != self._real and not real.startswith(f"{self._real}{os.sep}"):
            raise ConfigError(
                f"{path} is a link out of the data set, to {real}. Copy the data set with its links resolved "
                f"(`cp -rL`) and open the copy."
            )
        if not os.path.isfile(real):
            raise ConfigError(f"{path} is missing; the data set is incomplete, copy it again.")
        return path

    def outline(self, name: str) -> bytes:
        path = self.path(name)
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(OUTLINE_BYTES)
            file.seek(max(size - OUTLINE_BYTES, 0))
            return str(size).encode() + head + file.read()


def require_inside(name: str, root: str) -> str:
    """The name itself, once it is certain that it cannot leave the root."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise ConfigError(
            f"{root} refers to the file {name!r}, which lies outside the data set; its metadata are damaged."
        )
    return name
