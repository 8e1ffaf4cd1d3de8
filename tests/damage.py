"""Small data sets of every format, ways to damage them, and what reading then must say: refuse, or give exact data."""

import io
import json
import re
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from older_formats import write_gr00t, write_v2
from recordings import INSTRUCTIONS, open_writer, record

from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.formats import open_dataset

Files = Mapping[str, bytes]  # by name relative to the root, which is "" itself if it is a file
Damaged = dict[str, bytes | None]  # new content, or the file is gone; LINK: a link to a copy outside
LINK = b"link"
SAMPLES = Path(__file__).parent / "samples"
LIFT = "lift the cube"
WORDS = tuple(text.encode() for text in (*INSTRUCTIONS, LIFT, "pick up the red cube"))
ABSURD = (-1, 0, 2**31 - 1, 2**40, 2**63 - 1)
READ_OF_HDF5 = ("actions", "rewards", "dones", "obs", "obs/agentview_image", "obs/robot0_eef_pos")
UNREAD = ("stats.json", ".lock")
TELLING = ("truncate", "delete", "leave", "link_out", "not_utf8")  # what shows without checksums
OUTSIDE = "outside"  # beside the root: a whole copy of it, that no file of it may lead to


# ---- small data sets ----


def make_recorded(folder: Path) -> Path:
    with open_writer(folder / "data") as writer:
        for seed in range(3):
            record(writer, seed)
    return folder / "data"


def make_plain(folder: Path) -> Path:
    """LeRobot v3.0 as its own writer leaves it: no checksum anywhere."""
    root = make_recorded(folder)
    info = json.loads((root / layout.INFO).read_text())
    del info[layout.EXTENSION]
    (root / layout.INFO).write_text(json.dumps(info))
    _drop_checksums(root)
    return root


def make_v20(folder: Path) -> Path:
    return _drop_checksums(write_v2(make_recorded(folder / "made"), folder / "data", "v2.0"))


def make_v21(folder: Path) -> Path:
    return _drop_checksums(write_v2(make_recorded(folder / "made"), folder / "data"))


def make_gr00t(folder: Path) -> Path:
    return _drop_checksums(write_gr00t(make_recorded(folder / "made"), folder / "data"))


def make_rlds(folder: Path) -> Path:
    root = folder / "data"
    shutil.copytree(SAMPLES / "rlds_tiny", root, ignore=shutil.ignore_patterns("*-val*"))
    (folder / "data.volar.json").write_text(json.dumps({"fps": 5, "state": ["state", "gripper"]}))
    return root


def make_robomimic(folder: Path) -> Path:
    root = folder / "data.hdf5"
    shutil.copy(SAMPLES / "robomimic_tiny.hdf5", root)
    with h5py.File(root, "r+") as file:
        data = file["data"]
        assert isinstance(data, h5py.Group)
        for demo in data.values():
            demo.attrs["ep_meta"] = json.dumps({"lang": LIFT})
    (folder / "data.hdf5.volar.json").write_text(json.dumps({"state": ["robot0_eef_pos"]}))
    return root


def _drop_checksums(root: Path) -> Path:
    for path in root.rglob("*.parquet"):
        table = pq.read_table(path)
        kept = [name for name in table.column_names if not name.startswith(layout.CHECKSUM)]
        pq.write_table(table.select(kept), path)
    return root


MAKERS: dict[str, Callable[[Path], Path]] = {
    "LeRobot v3.0, checksums": make_recorded, "LeRobot v3.0, plain": make_plain, "LeRobot v2.1": make_v21,
    "LeRobot v2.0": make_v20, "GR00T": make_gr00t, "RLDS": make_rlds, "robomimic": make_robomimic,
}  # fmt: skip


# ---- damage: contents in, changed contents out; nothing if the format offers no place for it ----


def truncate(files: Files, drawn: np.random.Generator) -> Damaged:
    name = _any_file(files, drawn)
    return {name: files[name][: int(drawn.integers(len(files[name])))]}


def flip(files: Files, drawn: np.random.Generator) -> Damaged:
    """One bit; half of the time near the end, where formats keep their tables."""
    name = _any_file(files, drawn)
    bad = bytearray(files[name])
    place = int(drawn.integers(max(len(bad) - 400, 0) if drawn.random() < 0.5 else 0, len(bad)))
    bad[place] ^= 1 << int(drawn.integers(8))
    return {name: bytes(bad)}


def overwrite(files: Files, drawn: np.random.Generator) -> Damaged:
    name = _any_file(files, drawn)
    bad, place = bytearray(files[name]), int(drawn.integers(len(files[name])))
    bad[place : place + 16] = drawn.bytes(len(bad[place : place + 16]))
    return {name: bytes(bad)}


def cut_out(files: Files, drawn: np.random.Generator) -> Damaged:
    name = _any_file(files, drawn)
    bad, place = bytearray(files[name]), int(drawn.integers(len(files[name])))
    del bad[place : place + int(drawn.integers(1, 64))]
    return {name: bytes(bad)}


def swap_regions(files: Files, drawn: np.random.Generator) -> Damaged:
    name = _any_file(files, drawn)
    good = files[name]
    size = int(drawn.integers(1, max(len(good) // 4, 2)))
    first = int(drawn.integers(max(len(good) - 2 * size, 1)))
    second = int(drawn.integers(first + size, max(len(good) - size, first + size) + 1))
    pieces = good[:first], good[second : second + size], good[first + size : second], good[first : first + size]
    return {name: b"".join(pieces) + good[second + size :]}


def swap_files(files: Files, drawn: np.random.Generator) -> Damaged:
    """Half of the time two of one kind, where there are such."""
    one = _any_file(files, drawn)
    alike = [name for name in files if name != one and Path(name).suffix == Path(one).suffix]
    others = alike if alike and drawn.random() < 0.5 else [name for name in files if name != one]
    if not others:
        return {}
    other = others[int(drawn.integers(len(others)))]
    return {one: files[other], other: files[one]}


def delete(files: Files, drawn: np.random.Generator) -> Damaged:
    return {_any_file(files, drawn): None}


def absurd_size(files: Files, drawn: np.random.Generator) -> Damaged:
    """A number of a text file, or four or eight bytes of a binary one, become a size that cannot be."""
    name, size = _any_file(files, drawn), ABSURD[int(drawn.integers(len(ABSURD)))]
    if not _is_text(name):
        form = ("<i", ">i", "<q", ">q")[int(drawn.integers(4))]
        packed = struct.pack(form, size if form[1] == "q" else size % 2**31)
        place = int(drawn.integers(max(len(files[name]) - len(packed), 1)))
        return {name: files[name][:place] + packed + files[name][place + len(packed) :]}
    places = list(re.finditer(rb"(?<![\w.])-?\d+(?![\w.])", files[name]))
    return _replaced(files, name, places, str(size).encode(), drawn)


def leave(files: Files, drawn: np.random.Generator) -> Damaged:
    """A path of the metadata leads out of the data set, to a whole copy of it."""
    keys = rb'"(?:data_path|video_path|original_key)": "()|"filepathTemplate": "()(?=[^}]*\},\s)|"name": "()tiny_robot'
    places = [(name, found) for name in files if _is_text(name) for found in re.finditer(keys, files[name], re.M)]
    if not places:
        return _linked_inside(files, drawn)
    name, found = places[int(drawn.integers(len(places)))]
    away = (b"../outside/", b"/", b"x/../../outside/", b"..\\\\outside\\\\")[int(drawn.integers(4))]
    place = found.start(found.lastindex or 0)
    return {name: files[name][:place] + away + files[name][place:]}


def link_out(files: Files, drawn: np.random.Generator) -> Damaged:
    """A file is a link to an exact copy of itself outside."""
    if len(files) == 1:
        return _linked_inside(files, drawn)
    return {_any_file(files, drawn): LINK}


def not_utf8(files: Files, drawn: np.random.Generator) -> Damaged:
    """A byte of an instruction is none that text may have; checksums fit what is written."""
    name = _any_file({name: good for name, good in files.items() if _instruction(name, good)}, drawn)
    strange = bytes([int(drawn.integers(128, 256))])
    if Path(name).suffix == ".parquet":
        return {name: _strange_words(files[name], name, strange)}
    word = _instruction(name, files[name])
    assert word is not None
    place = files[name].index(word) + int(drawn.integers(len(word)))
    bad = files[name][:place] + strange + files[name][place + 1 :]
    return {name: _summed(bad) if "tfrecord" in name else bad}


def forge(files: Files, drawn: np.random.Generator) -> Damaged:
    """TFRecord only: some bits of a record's content change, and its checksum with them."""
    names = [name for name in files if "tfrecord" in name]
    if not names:
        return {}
    name = names[int(drawn.integers(len(names)))]
    bad = bytearray(files[name])
    length = struct.unpack_from("<Q", bad)[0]  # of the first record
    for _ in range(int(drawn.integers(1, 4))):
        bad[12 + int(drawn.integers(length))] ^= 1 << int(drawn.integers(8))
    return {name: _summed(bytes(bad))}


def _any_file(files: Files, drawn: np.random.Generator) -> str:
    """Every kind of file equally often, however many there are of it."""
    kinds: dict[str, list[str]] = {}
    for name in sorted(files):
        kinds.setdefault(re.sub(r"\d+", "", name), []).append(name)
    chosen = kinds[sorted(kinds)[int(drawn.integers(len(kinds)))]]
    return chosen[int(drawn.integers(len(chosen)))]


def _is_text(name: str) -> bool:
    return name.endswith((".json", ".jsonl"))


def _instruction(name: str, content: bytes) -> bytes | None:
    """The one that the file holds; of parquet files, those of tables of words."""
    if name.endswith(".parquet"):
        return WORDS[0] if name.startswith("meta/") else None
    return next((word for word in WORDS if word in content), None)


def _replaced(
    files: Files, name: str, places: list[re.Match[bytes]], new: bytes, drawn: np.random.Generator
) -> Damaged:
    if not places:
        return {}
    start, stop = places[int(drawn.integers(len(places)))].span()
    return {name: files[name][:start] + new + files[name][stop:]}


def _strange_words(content: bytes, name: str, strange: bytes) -> bytes:
    """A parquet table whose texts begin with a byte that UTF-8 does not have there."""
    table = pq.read_table(io.BytesIO(content))
    key = "task" if "task" in table.column_names else "tasks"
    rows = table[key].to_pylist()
    if key == "task":
        column = pa.array([strange + row.encode() for row in rows], pa.binary()).view(pa.string())
    else:
        words = pa.array([strange + word.encode() for row in rows for word in row], pa.binary()).view(pa.string())
        column = pa.ListArray.from_arrays(np.cumsum([0, *map(len, rows)]).astype(np.int32), words)
    bad = io.BytesIO()
    pq.write_table(table.set_column(table.column_names.index(key), key, column), bad)
    return bad.getvalue()


def _summed(content: bytes) -> bytes:
    """A TFRecord file with the checksums that its records ought to have."""
    good, position = bytearray(content), 0
    while position < len(good):
        length = struct.unpack_from("<Q", good, position)[0]
        end = position + 12 + length
        for start, stop in ((position, position + 8), (position + 12, end)):
            plain = google_crc32c.value(bytes(good[start:stop]))
            struct.pack_into("<I", good, stop, ((plain >> 15 | plain << 17) + 0xA282EAD8) & 0xFFFFFFFF)
        position = end + 4
    return bytes(good)


def _linked_inside(files: Files, drawn: np.random.Generator) -> Damaged:
    """HDF5 only: a member that lies in another file."""
    if "" not in files:
        return {}
    content = io.BytesIO(files[""])
    with h5py.File(content, "r+") as file:
        demos = [f"demo_{number}" for number in (0, 1, 2, 10)]
        found = [*demos, *(f"{demo}/{name}" for demo in demos for name in READ_OF_HDF5)]
        name = f"data/{found[int(drawn.integers(len(found)))]}"
        kind = int(drawn.integers(3))
        member = file[name]
        numbers = isinstance(member, h5py.Dataset)
        shape, dtype = (member.shape, member.dtype) if numbers else ((1,), "f4")
        del file[name]
        if kind == 0 or not numbers:
            file[name] = h5py.ExternalLink(f"{OUTSIDE}.hdf5", f"/{name}")
        elif kind == 1:
            file.create_dataset(name, shape, dtype, external=[(f"{OUTSIDE}.hdf5", 0, h5py.h5f.UNLIMITED)])
        else:
            layout_ = h5py.VirtualLayout(shape, dtype)
            layout_[...] = h5py.VirtualSource(f"{OUTSIDE}.hdf5", f"/{name}", shape, dtype)
            file.create_virtual_dataset(name, layout_)
    return {"": content.getvalue()}


DAMAGES: dict[str, Callable[[Files, np.random.Generator], Damaged]] = {
    each.__name__: each
    for each in (
        truncate, flip, overwrite, cut_out, swap_regions, swap_files, delete, absurd_size, leave, link_out, not_utf8,
        forge,
    )
}  # fmt: skip


# ---- what reading says ----


class Copy:
    """A data set that is damaged and mended again, over and over."""

    def __init__(self, root: Path) -> None:
        self.root = root
        paths = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        names = [path.relative_to(root).as_posix() if path != root else "" for path in paths]
        self.files = {name: self._path(name).read_bytes() for name in names if Path(name).name not in UNREAD}
        self.outside = root.with_name(OUTSIDE + root.suffix)
        shutil.copytree(root, self.outside) if root.is_dir() else shutil.copy(root, self.outside)
        self.whole = content(root)

    def _path(self, name: str) -> Path:
        return self.root / name if name else self.root

    def read_damaged(self, kind: str, drawn: np.random.Generator) -> "Outcome | None":
        """None if this format offers no place for this kind of damage."""
        changed = DAMAGES[kind](self.files, drawn)
        if not changed:
            return None
        for name, new in changed.items():
            path = self._path(name)
            path.unlink()
            if new == LINK:
                path.symlink_to(self.outside / name)
            elif new is not None:
                path.write_bytes(new)
        try:
            return self._read(kind, changed, lazy=bool(drawn.integers(2)))
        finally:
            for name in changed:
                self._path(name).unlink(missing_ok=True)
                self._path(name).write_bytes(self.files[name])

    def _read(self, kind: str, changed: Damaged, *, lazy: bool) -> "Outcome":
        where = ", ".join(name or self.root.name for name in changed)
        try:
            exact = content(self.root, lazy=lazy) == self.whole
        except ConfigError as error:
            named = str(self.root) in str(error) or any(Path(name).name in str(error) for name in changed if name)
            return Outcome(says="refused" if named else "unnamed", where=where, error=str(error))
        except Exception as error:  # what this looks for
            return Outcome(says="crash", where=where, error=repr(error))
        if exact:
            return Outcome(says="escaped" if kind in ("leave", "link_out") else "exact", where=where)
        owed = kind in TELLING or (kind != "forge" and all(map(self._summed, changed)))
        return Outcome(says="other" if owed else "unnoticed", where=where)

    def _summed(self, name: str) -> bool:
        """Whether the format stores a checksum of this file, so that every change must be noticed."""
        return "tfrecord" in name or layout.EXTENSION.encode() in self.files.get(layout.INFO, b"")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """says: "refused" (a ConfigError with the place), "exact", "unnoticed" (other data, where the format stores no
    checksum), or a fault: "unnamed", "crash", "escaped" (read from outside the root), "other" (other data, despite
    checksums or after damage that shows without)."""

    says: str
    where: str
    error: str = ""


FINE = ("refused", "exact", "unnoticed")


def content(root: Path, *, lazy: bool = False) -> list[object]:
    """Everything that a user can get of a data set."""
    data = open_dataset(root, decoded_bytes=0, lazy=lazy)
    pictures = [data.frames(camera.name, range(data.num_frames)).tobytes() for camera in data.cameras]
    columns = {name: data.rows(name, range(data.num_frames)) for name in data.numeric}
    numbers = [(name, values.dtype, values.tobytes()) for name, values in columns.items()]
    episodes = [(episode.stop, episode.tasks, episode.source) for episode in data.episodes]
    return [data.spec, data.tasks, data.fps, data.cameras, episodes, numbers, pictures]
