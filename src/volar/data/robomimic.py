"""Reads robomimic HDF5 files (robosuite, MimicGen, RoboCasa, LIBERO). The only door to h5py.

HDF5 has no checksums unless its writer asked for them: a flipped bit in the numbers or pixels of a plain file cannot
be noticed, and some damaged metadata make libhdf5 itself loop for ever. Not read: `next_obs`, simulator `states`,
depth. robomimic: arXiv 2108.03298.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Int, UInt8

from volar.core.errors import ConfigError, unknown_name
from volar.data import layout
from volar.data.dataset import Dataset, Header, Options, Source
from volar.data.declaration import Declaration, find_declaration
from volar.data.episodes import EpisodeTable
from volar.data.joined import Joined, Part, declare_features
from volar.data.store import Store

try:
    import h5py
except ImportError as error:
    raise ConfigError("Reading robomimic files needs the package h5py; install it with `pip install h5py`.") from error

FORMAT: Final = "robomimic"
MAGIC: Final = b"\x89HDF\r\n\x1a\n"
REWARDS, DONES, DONE = "rewards", "dones", "next.done"
FILTERS: Final = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}
MAX_RATIO: Final = 1032  # of deflate: what claims to be more was never compressed, it is a damaged size
MAX_CHUNK: Final = 2**26  # bytes; HDF5 unpacks whole chunks


def open_robomimic(store: Store, options: Options) -> Dataset:
    """Open one HDF5 file; see `volar.data.formats.open_dataset`.

    Beside what is declared, the rate is env_args' control_freq where there is one, instructions are LIBERO's
    problem_info and RoboCasa's ep_meta. A declared part is a filter key. Pictures are turned upright where the file
    says that they were kept in OpenGL's order of rows.
    """
    declared = options.declared or find_declaration(store)
    with _reading(store), _open(store) as file:
        data = _group(file, "data", store)
        env = _json_attribute(data, "env_args")
        rate = (env.get("env_kwargs") or {}).get("control_freq")
        fps = declared.rate(float(rate) if isinstance(rate, int | float) else None, store, FORMAT)
        demos = _choose_demos(file, data, declared.part, store)
        contents = _contents(_group(data, demos[0], store), declared, store)
        cameras = {key: part.shape[:2] for key, part in contents.cameras.items()}
        features = declare_features(cameras, contents.columns)
        declared.check_robot(features, store)
        lengths = [_length(_group(data, demo, store), f"{store.root}: {demo}") for demo in demos]
        shared = _json_attribute(data, "problem_info").get("language_instruction")
        tasks = [
            declared.require_instruction(
                _json_attribute(_group(data, demo, store), "ep_meta").get("lang", shared), store, FORMAT
            )
            for demo in demos
        ]
        upright = _attribute(data, "macros_image_convention") != "opengl"
    header = Header(
        store=store, format=FORMAT, fps=fps, features=features, tasks=tuple(dict.fromkeys(tasks)),
        episodes=EpisodeTable(
            np.array(lengths), [(task,) for task in tasks], [json.dumps({"demo": demo}) for demo in demos]
        ),
        info={"format": FORMAT, "features": features, "declared": declared.to_json(), "upright": upright},
        spec=declared.robot, facts={"env_args": env, "filter_key": declared.part},
    )  # fmt: skip
    source = _Demos(header, contents, tuple(demos), upright)
    dataset = Dataset(header, source, options)
    if not options.lazy:
        source.check_pictures()
    return dataset


@contextmanager
def _reading(store: Store) -> Iterator[None]:
    """h5py tells of damage in many ways; all of them name the file here."""
    try:
        yield
    except ConfigError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError) as error:
        raise ConfigError(f"{store.root} is truncated or corrupt: {error}.") from error


def _open(store: Store) -> h5py.File:
    return h5py.File(store.path(""), "r", locking=False)


def _group(parent: h5py.Group, name: str, store: Store) -> h5py.Group:
    found = _member(parent, name, store)
    if not isinstance(found, h5py.Group):
        raise ConfigError(f"{store.root}: {parent.name}/{name} is no group; it is no robomimic file.")
    return found


def _member(parent: h5py.Group, name: str, store: Store) -> h5py.Group | h5py.Dataset:
    """What the group itself holds under a name: links are not followed, they may lead to other files."""
    link, place = parent.get(name, getlink=True), f"{parent.name or ''}/{name}".replace("//", "/")
    if link is None:
        raise ConfigError(f"{store.root} has no {place}; it is no whole robomimic file.")
    if not isinstance(link, h5py.HardLink):
        raise ConfigError(f"{store.root}: {place} is a link; copy the file with its links resolved.")
    found = parent[name]
    if isinstance(found, h5py.Datatype):
        raise ConfigError(f"{store.root}: {place} holds no data.")
    return found


def _names(group: h5py.Group) -> list[str]:
    return [str(name) for name in group]


def _attribute(item: h5py.Group, name: str) -> Any:
    """One value, None if it is not there. Raises ValueError for arrays, and for text that is not UTF-8."""
    if name not in item.attrs:
        return None
    if item.attrs.get_id(name).shape != ():
        raise ValueError(f"the attribute {name!r} of {item.name} is no single value")
    value = item.attrs[name]
    if isinstance(value, str):
        value.encode()  # h5py hides bytes that are no UTF-8 in surrogates; this tells of them
    return value.decode() if isinstance(value, bytes) else value


def _json_attribute(item: h5py.Group, name: str) -> dict[str, Any]:
    """A JSON object kept as text; empty if it is not there."""
    text = _attribute(item, name)
    value = {} if text is None else json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"the attribute {name!r} of {item.name} is no JSON object")
    return value


def _choose_demos(file: h5py.File, data: h5py.Group, filter_key: str | None, store: Store) -> list[str]:
    """Names of the demonstrations by number, as robomimic orders them; those of a filter key only, if one is given."""
    names = sorted(_names(data), key=_number)
    if filter_key is not None:
        keys = _group(file, "mask", store) if "mask" in file else None
        if keys is None or filter_key not in keys:
            raise unknown_name(f"filter key in {store.root}", filter_key, _names(keys) if keys else [])
        listed = _member(keys, filter_key, store)
        if not isinstance(listed, h5py.Dataset) or len(listed.shape) != 1 or listed.shape[0] > len(names):
            raise ConfigError(f"{store.root}: mask/{filter_key} is no list of demonstrations.")
        chosen = {bytes(name).decode() for name in listed[()]}
        if strangers := sorted(chosen - set(names)):
            raise ConfigError(f"{store.root}: the filter key {filter_key!r} lists {strangers}, which are not there.")
        names = [name for name in names if name in chosen]
    if not names:
        raise ConfigError(f"{store.root} holds no demonstrations{f' of {filter_key!r}' if filter_key else ''}.")
    return names


def _number(demo: str) -> int:
    digits = re.fullmatch(r"demo_(\d{1,9})", demo)
    if digits is None:
        raise ValueError(f"'data' holds {demo!r}; robomimic names demonstrations demo_0, demo_1, ...")
    return int(digits[1])


def _length(demo: h5py.Group, where: str) -> int:
    """Text in LIBERO, a number elsewhere."""
    count = int(_attribute(demo, "num_samples"))
    if count < 1:
        raise ConfigError(f"{where} claims {count} samples.")
    return count


@dataclass(frozen=True, kw_only=True)
class _Contents:
    """What of a demonstration is presented, by feature key: pictures, and what numeric features are made of."""

    cameras: Mapping[str, Part]
    columns: Mapping[str, Joined]


def _contents(demo: h5py.Group, declared: Declaration, store: Store) -> _Contents:
    """By the first demonstration; every other must be alike."""
    kept = {name: part for name in _names(demo) if (part := _part(demo, name, "", store))}
    observed = {}
    if "obs" in demo:
        obs = _group(demo, "obs", store)
        observed = {name: part for name in _names(obs) if (part := _part(obs, name, "obs/", store))}
    cameras = {name: part for name, part in observed.items() if part.dtype == "uint8" and part.shape[2:] == (3,)}
    numbers = {name: part for name, part in observed.items() if len(part.shape) < 2}
    actions = {name: part for name, part in kept.items() if name.startswith("action") and len(part.shape) == 1}
    if declared.action is None:
        actions = {name: part for name, part in actions.items() if name == "actions"}
    action = declared.choose("action", actions, store)
    if action is None:
        raise ConfigError(f"{store.root} has no actions; {demo.name} holds {sorted(_names(demo))}.")
    state = declared.choose("state", numbers, store)
    columns = {layout.ACTION: action} | ({layout.STATE: state} if state else {})
    for key, name in ((layout.REWARD, REWARDS), (DONE, DONES)):
        if name in kept and kept[name].shape == ():
            columns[key] = Joined(((name, kept[name]),))
    return _Contents(cameras={layout.image_key(name): part for name, part in cameras.items()}, columns=columns)


def _part(group: h5py.Group, name: str, prefix: str, store: Store) -> Part | None:
    """None for groups and for what is neither numbers nor truth values."""
    found = _member(group, name, store)
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iufb" or not found.shape:
        return None
    return Part(dtype=found.dtype.name, shape=found.shape[1:], place=f"{prefix}{name}")


class _Demos(Source):
    """Demonstrations as groups of one file, which every process opens for itself."""

    def __init__(self, header: Header, contents: _Contents, demos: tuple[str, ...], upright: bool) -> None:
        self._header, self._contents, self._demos, self._upright = header, contents, demos, upright
        self._opened: tuple[int, h5py.File] | None = None  # process id, and the file it opened

    def __reduce__(self) -> tuple[Any, ...]:
        return _Demos, (self._header, self._contents, self._demos, self._upright)

    def numbers(self, episodes: range, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        columns = {key: made for key, made in self._contents.columns.items() if names is None or key in names}
        places = {part.place: part for made in columns.values() for _, part in made.parts}
        read: dict[str, list[np.ndarray]] = {key: [] for key in columns}
        for episode in episodes:
            with _reading(self._header.store):
                values = {place: self._dataset(episode, part)[()] for place, part in places.items()}
            for key, made in columns.items():
                read[key].append(made.join(values))
        books = self._header.episodes.bookkeeping(episodes, fps=self._header.fps, tasks=self._header.tasks)
        found = books | {key: np.concatenate(values) for key, values in read.items()}
        return {key: values for key, values in found.items() if names is None or key in names}

    def pictures(self, key: str, rows: Int[np.ndarray, " n"]) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
        table, pictures = self._header.episodes, {}
        episodes = table.episode_of(rows)
        for episode in np.unique(episodes).tolist():
            with _reading(self._header.store):
                kept = self._dataset(episode, self._contents.cameras[key])
                for row in rows[episodes == episode].tolist():
                    picture = kept[row - int(table.bounds[episode])]
                    pictures[row] = picture if self._upright else picture[::-1]
        return pictures

    def identity(self) -> Iterator[bytes]:
        yield self._header.store.outline("")

    def check_pictures(self) -> None:
        """Every demonstration has the pictures that it should, without reading them."""
        for episode in range(len(self._demos)):
            with _reading(self._header.store):
                for part in self._contents.cameras.values():
                    self._dataset(episode, part)

    def _dataset(self, episode: int, part: Part) -> h5py.Dataset:
        store, length = self._header.store, int(self._header.episodes.lengths[episode])
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), _open(store))
        found: h5py.Group | h5py.Dataset = self._opened[1]
        for name in ("data", self._demos[episode], *part.place.split("/")):
            assert isinstance(found, h5py.Group)
            found = _member(found, name, store)
        where = f"{store.root}: {found.name}"
        if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iufb":
            raise ConfigError(f"{where} holds no numbers.")
        if found.shape != (length, *part.shape) or found.dtype.name != part.dtype:
            raise ConfigError(
                f"{where} is {found.dtype.name} {list(found.shape)}; by num_samples and the first demonstration it "
                f"should be {part.dtype} {[length, *part.shape]}."
            )
        _require_kept_here(found, where, os.path.getsize(store.path("")))
        return found


def _require_kept_here(found: h5py.Dataset, where: str, file_bytes: int) -> None:
    """Raises ConfigError for data in other files, filters that would load a plug-in, and sizes that cannot be true."""
    properties = found.id.get_create_plist()
    filters = {properties.get_filter(index)[0] for index in range(properties.get_nfilters())}
    if found.external or found.is_virtual:
        raise ConfigError(f"{where} is kept in other files; copy it into one.")
    if strange := filters - FILTERS:
        raise ConfigError(f"{where} is packed by the HDF5 filter(s) {sorted(strange)}; volar reads gzip and lzf.")
    stored = found.id.get_storage_size()
    chunk = found.dtype.itemsize * int(np.prod(found.chunks or (), dtype=np.float64))
    if stored > file_bytes or found.nbytes > stored * (MAX_RATIO if filters else 1) or chunk > MAX_CHUNK:
        raise ConfigError(
            f"{where} claims {found.nbytes} bytes, of which {stored} are in the file; its metadata are damaged."
        )
