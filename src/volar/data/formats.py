"""The formats that volar reads, how each is recognised, and the one way to open a data set of any of them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.dataset import Dataset, Options
from volar.data.declaration import Declaration
from volar.data.store import Store, open_store


@dataclass(frozen=True, kw_only=True)
class Format:
    """marks: what the format is recognised by, in words. opener: "module:function" of (store, options) -> Dataset."""

    name: str
    marks: str
    recognises: Callable[[Store], bool]
    opener: str


def _version(store: Store) -> str:
    """Of a LeRobot data set, "" for anything else."""
    if not store.has(layout.INFO):
        return ""
    try:
        return str(json.loads(store.text(layout.INFO))["codebase_version"])
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{store.place(layout.INFO)} is corrupt: {error!r}.") from error


V2 = ("v2.0", "v2.1")
FORMATS: tuple[Format, ...] = (
    Format(
        name="LeRobot v3.0", marks=f"{layout.INFO} of codebase_version v3.0",
        recognises=lambda store: _version(store).startswith("v3."), opener="volar.data.lerobot:open_lerobot",
    ),
    Format(
        name="GR00T", marks="meta/modality.json beside a LeRobot data set of version v2.0 or v2.1",
        recognises=lambda store: _version(store) in V2 and store.has("meta/modality.json"),
        opener="volar.data.gr00t:open_gr00t",
    ),
    Format(
        name="LeRobot v2.1", marks=f"{layout.INFO} of codebase_version v2.0 or v2.1",
        recognises=lambda store: _version(store) in V2, opener="volar.data.lerobot_v2:open_lerobot_v2",
    ),
    Format(
        name="RLDS", marks="features.json and dataset_info.json of TensorFlow Datasets, as in bridge_dataset/1.0.0",
        recognises=lambda store: store.has("features.json") and store.has("dataset_info.json"),
        opener="volar.data.rlds:open_rlds",
    ),
    Format(
        name="robomimic", marks="one file that ends in .hdf5 or .h5",
        recognises=lambda store: store.root.endswith((".hdf5", ".h5")) and store.has(""),
        opener="volar.data.robomimic:open_robomimic",
    ),
)  # fmt: skip


def open_dataset(
    root: str | Path, *, decoded_bytes: int = 2**30, decoded_folder: Path | None = None, lazy: bool = False,
    declared: Declaration | None = None, copies: Path | None = None, copied_bytes: int = 50 * 2**30,
) -> Dataset:  # fmt: skip
    """Open and check a data set: every number is read, every video's structure walked, no picture decoded.

    root: a folder, a file, or an fsspec URL, whose files are copied to `copies` when they are first read
    (~/.cache/volar/data by default; at most `copied_bytes` stay).
    decoded_bytes: decoded pictures are kept in memory if all of a camera's fit into what is left of this.
    decoded_folder: keep them in memory-mapped files there instead, shared by processes and later runs.
    lazy: read only the table of episodes now, and numbers and videos when they are asked for; they are checked then.
    declared: what RLDS and robomimic leave unsaid; by default what the file ROOT.volar.json beside the data set says.
    Raises ConfigError for a format that volar does not read, a missing, truncated or corrupt file (named), numbers that
    are not finite (with the episode), timestamps that contradict the frame rate, or rows that contradict the episode
    table.
    """
    store = open_store(root, copies=copies, copied_bytes=copied_bytes)
    options = Options(decoded_bytes=decoded_bytes, decoded_folder=decoded_folder, lazy=lazy, declared=declared)
    if not store.exists():
        raise ConfigError(f"No data set at {store.root}: there is no such file or folder.")
    for candidate in FORMATS:
        if candidate.recognises(store):
            module, function = candidate.opener.split(":")
            return vars(import_module(module))[function](store, options)
    if version := _version(store):
        raise ConfigError(
            f"{store.root} is a LeRobot data set of version {version}, which volar does not read. It reads "
            f"{', '.join(candidate.name for candidate in FORMATS)}."
        )
    known = "\n".join(f"  {candidate.name}: {candidate.marks}" for candidate in FORMATS)
    raise ConfigError(f"No data set at {store.root}: there is no {layout.INFO}. volar reads\n{known}")
