"""Files that are either whole or absent, whatever kills the process. Not a transaction: files appear one by one."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from volar.core.errors import ConfigError

try:
    import fcntl
except ModuleNotFoundError:  # Windows: two writers of one folder are not noticed there
    fcntl = None

TEMPORARY = ".tmp"


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write every file beside its place, flush all to the disk, then move them into place in the order given.

    Whoever sees the last file sees all before it, after a power cut too. On an error nothing half-written is left
    under a final name, and a full disk is an OSError (ENOSPC) that says what to do.
    """
    temporaries = {path: path.with_name(path.name + TEMPORARY) for path in files}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporaries[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        last = next(reversed(temporaries), None)
        for path, temporary in temporaries.items():
            if path == last:  # the others are on the disk, names included, before the one that declares them
                for folder in {earlier.parent for earlier in temporaries if earlier != last}:
                    flush(folder)
            os.replace(temporary, path)
        if last is not None:
            flush(last.parent)
    except OSError as error:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            size = sum(map(len, files.values())) / 2**20
            raise OSError(
                error.errno,
                f"The disk is full: {size:.1f} MiB could not be written to {next(iter(files)).parent}. What was saved "
                f"before is intact; free some space and resume",
            ) from error
        raise


def flush(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk."""
    if os.name == "nt":  # folders cannot be opened there, and a rename is durable by itself
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FolderLock:
    """Held by whoever writes into `folder`; released by the system when its process dies. ConfigError if taken."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / ".lock").open("w")
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._file.close()
                raise ConfigError(f"Another process is writing into {folder}; wait for it or stop it.") from error

    def release(self) -> None:
        self._file.close()
