"""Reads RLDS episodes as TensorFlow Datasets exports them (Open X-Embodiment, Bridge, LIBERO), without TensorFlow.

Every record's checksum is compared when it is read, pictures are decoded when asked for. Not read: depth, embeddings
and whatever else an observation holds beside pictures and the declared state. RLDS: arXiv 2111.02767.
"""

import io
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Int, Shaped, UInt8
from PIL import Image

from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.cache import Recent
from volar.data.dataset import Dataset, Header, Options, Source
from volar.data.declaration import Declaration, Joined, Part, find_declaration
from volar.data.episodes import EpisodeTable
from volar.data.media import decode_picture, image_features
from volar.data.store import Store
from volar.data.tfds import STEPS, Leaf, Shard, read_leaves, read_split
from volar.data.tfrecord import Records, Values, index_records, parse_example

FORMAT: Final = "RLDS"
OBSERVATION, ACTION, REWARD = f"{STEPS}/observation/", f"{STEPS}/action", f"{STEPS}/reward"
METADATA: Final = "episode_metadata/"
FIRST, LAST = f"{STEPS}/is_first", f"{STEPS}/is_last"
# Where conversions keep the instruction; the first that is there counts.
INSTRUCTIONS: Final = tuple(
    f"{STEPS}/{name}"
    for name in ("language_instruction", "natural_language_instruction", "observation/natural_language_instruction",
                 "observation/language_instruction")
)  # fmt: skip
PICTURES: Final = (b"\x89PNG", b"\xff\xd8\xff")  # how the files of the two kinds that TFDS writes begin
RECORD_BYTES: Final = 512 * 2**20  # of records with pictures kept in memory


def open_rlds(store: Store, options: Options, declared: Declaration | None = None) -> Dataset:
    """Open one split of a folder with features.json and dataset_info.json; see `volar.data.formats.open_dataset`.

    declared: what RLDS does not say, see `Declaration`; by default the file beside the data set. The split is "train"
    unless another part is declared. What episode_metadata holds in texts and single numbers is every episode's source.
    """
    declared = find_declaration(store) if declared is None else declared
    leaves, split = read_leaves(store), declared.part or "train"
    contents = _contents(leaves, declared, store)
    shards = tuple(_index(store, shard) for shard in read_split(store, split))
    fps = declared.rate(None, store, FORMAT)
    features = contents.features(_picture_sizes(shards, contents))
    declared.check_robot(features, store)
    survey = _survey(shards, contents, declared, store)
    header = Header(
        store=store, format=FORMAT, fps=fps, features=features, episodes=survey.table, tasks=survey.tasks,
        info={"format": FORMAT, "split": split, "features": features, "declared": declared.to_json()},
        spec=declared.robot, facts={"split": split},
    )  # fmt: skip
    return Dataset(header, _Records(header, shards, contents, declared), options)


@dataclass(frozen=True, kw_only=True)
class _Contents:
    """What of a data set is presented. cameras: feature key -> where. numbers: all that is read, by place.

    words: where the instruction is, None if it was declared. metadata: what is noted of every episode.
    """

    cameras: Mapping[str, str]
    pictures: Mapping[str, Leaf]
    numbers: Mapping[str, Leaf]
    state: Joined | None
    action: Joined
    words: str | None
    metadata: Mapping[str, Leaf]

    def features(self, sizes: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, Any]]:
        """As LeRobot v3.0 declares them. sizes: height and width of the pictures, by place."""
        features: dict[str, dict[str, Any]] = {
            key: {"dtype": "image", "shape": [*sizes[place], 3], "names": ["height", "width", "channels"]}
            for key, place in self.cameras.items()
        }
        features |= {layout.STATE: self.state.feature()} if self.state else {}
        features |= {layout.ACTION: self.action.feature()}
        features |= {layout.REWARD: layout.vector(1, None)} if REWARD in self.numbers else {}
        return features | {name: layout.vector(1, None, dtype) for name, dtype in layout.BOOKKEEPING.items()}


def _contents(leaves: Mapping[str, Leaf], declared: Declaration, store: Store) -> _Contents:
    state = declared.choose("state", _parts(leaves, OBSERVATION), store)
    action = declared.choose("action", _parts(leaves, f"{ACTION}/") or _parts(leaves, ACTION), store)
    if action is None:
        raise ConfigError(f"{store.root} has no actions ({ACTION}); its features are {sorted(leaves)}.")
    pictures = {path: leaf for path, leaf in leaves.items() if leaf.kind == "picture" and path.startswith(OBSERVATION)}
    places = [part.place for joined in (state, action) if joined for _, part in joined.parts]
    places += [path for path in (REWARD, FIRST, LAST) if path in leaves and leaves[path].kind == "number"]
    words = next((path for path in INSTRUCTIONS if path in leaves and leaves[path].kind == "text"), None)
    return _Contents(
        cameras={layout.image_key(_short(path, OBSERVATION)): path for path in pictures}, pictures=pictures,
        numbers={path: leaves[path] for path in places}, state=state, action=action,
        words=words if declared.instruction is None else None,
        metadata={path: leaf for path, leaf in leaves.items() if path.startswith(METADATA)
                  and (leaf.kind == "text" or (leaf.kind == "number" and not leaf.shape))},
    )  # fmt: skip


def _parts(leaves: Mapping[str, Leaf], under: str) -> dict[str, Part]:
    """The numbers below a place, or at it, by short name. Floats are kept as float32 whatever they are declared."""
    return {
        _short(path, under): Part(
            dtype="float32" if leaf.dtype == "float64" else leaf.dtype, shape=leaf.shape, place=path
        )
        for path, leaf in leaves.items()
        if leaf.kind == "number" and (path == under or (under.endswith("/") and path.startswith(under)))
    }


def _short(path: str, under: str) -> str:
    return path.removeprefix(under).replace("/", ".") or path.rpartition("/")[2]


def _index(store: Store, shard: Shard) -> Records:
    records = index_records(store.path(shard.name))
    if len(records) != shard.num_records:
        raise ConfigError(
            f"{store.place(shard.name)} holds {len(records)} records, declared are {shard.num_records}; copy it again."
        )
    return records


@dataclass(frozen=True, kw_only=True)
class _Survey:
    """What opening learns of the episodes: their table, and the instructions by task index."""

    table: EpisodeTable
    tasks: tuple[str, ...]


def _survey(shards: Iterable[Records], contents: _Contents, declared: Declaration, store: Store) -> _Survey:
    """A first look into every record, without reading its pictures."""
    counted = contents.action.parts[0][1].place
    said = None if contents.words else declared.require_instruction(None, store, FORMAT)
    wanted = {counted, contents.words, *contents.metadata}
    lengths, tasks, sources = [], [], []
    for records in shards:
        for index, view in enumerate(records.peek()):
            where = f"{records.path}: record {index}"
            values = _parse(view, wanted, where)
            steps = len(values.get(counted, ())) // contents.numbers[counted].size - (not declared.last_step)
            if steps < 1:
                raise ConfigError(f"{where} is an episode without steps; write the data set without it.")
            words = _texts(values, contents.words, steps, where) if contents.words else [said]
            lengths.append(steps)
            tasks.append(tuple(dict.fromkeys(words)))
            sources.append(json.dumps(_noted(values, contents.metadata, where)))
    if not lengths:
        raise ConfigError(f"{store.root} holds no episodes in this split.")
    table = EpisodeTable(np.array(lengths, np.int64), tasks, sources)
    return _Survey(table=table, tasks=tuple(dict.fromkeys(word for words in tasks for word in words)))


def _parse(content: bytes | memoryview, wanted: Container[str | None], where: str) -> dict[str, Values]:
    try:
        return parse_example(content, wanted)
    except ValueError as error:
        raise ConfigError(f"{where} is no tf.train.Example: {error}.") from error


def _files(values: Mapping[str, Values], place: str, steps: int, where: str) -> list[memoryview]:
    """The texts or picture files at a place, of the first `steps` steps."""
    found = values.get(place)
    if not isinstance(found, list) or len(found) < steps:
        raise ConfigError(f"{where} does not hold {place!r} of {steps} steps, which features.json declares.")
    return found[:steps]


def _texts(values: Mapping[str, Values], place: str, steps: int, where: str) -> list[str]:
    try:
        return [bytes(text).decode() for text in _files(values, place, steps, where)]
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: {place!r} is not UTF-8 ({error.reason} at byte {error.start}).") from error


def _noted(values: Mapping[str, Values], metadata: Mapping[str, Leaf], where: str) -> dict[str, Any]:
    """The texts and single numbers of episode_metadata; what an episode leaves out is left out."""
    noted: dict[str, Any] = {}
    for place, leaf in metadata.items():
        if place in values:
            text = leaf.kind == "text"
            value = _texts(values, place, 1, where) if text else _numbers(values, place, leaf, 1, where).tolist()
            noted[place.removeprefix(METADATA)] = value[0]
    return noted


def _numbers(
    values: Mapping[str, Values], place: str, leaf: Leaf, steps: int, where: str
) -> Shaped[np.ndarray, "n ..."]:
    """A feature's numbers [n ...], which a record keeps flat and as float32 or int64. Refuses what does not fit."""
    flat, kind = values.get(place), np.dtype("float32" if leaf.dtype == "float64" else leaf.dtype)
    if (
        not isinstance(flat, np.ndarray)
        or len(flat) != steps * leaf.size
        or (flat.dtype.kind == "f") != (kind.kind == "f")
    ):
        found = "nothing" if flat is None else f"{len(flat)} values of another kind or number"
        raise ConfigError(
            f"{where} holds {found} at {place!r}; declared are {steps} steps of {leaf.dtype} {leaf.shape}."
        )
    exact = flat.astype(kind)
    if kind.kind != "f" and (exact.astype(np.int64) != flat).any():
        raise ConfigError(f"{where}: {place!r} holds numbers that {leaf.dtype} cannot; the record is damaged.")
    return exact.reshape(steps, *leaf.shape)


def _picture_sizes(shards: Sequence[Records], contents: _Contents) -> dict[str, tuple[int, int]]:
    """Height and width by place: as declared, or where it is left open those of the first picture."""
    found = {place: (leaf.shape[0], leaf.shape[1]) for place, leaf in contents.pictures.items()}
    open_places = {place for place, size in found.items() if min(size) < 1}
    first = next((records for records in shards if len(records)), None)
    if open_places and first is not None:
        where = f"{first.path}: record 0"
        values = _parse(first.read(0), open_places, where)
        for place in open_places:
            try:
                picture = Image.open(io.BytesIO(_files(values, place, 1, where)[0]), formats=("PNG", "JPEG"))
            except (OSError, ValueError, SyntaxError) as error:
                raise ConfigError(f"{where}: {place!r} begins with a corrupt picture: {error}.") from error
            found[place] = (picture.height, picture.width)
    return found


class _Records(Source):
    """Episodes as records of TFRecord files. Remembers the last ones whose pictures were asked for."""

    def __init__(self, header: Header, shards: tuple[Records, ...], contents: _Contents, declared: Declaration) -> None:
        self._header, self._shards, self._contents, self._declared = header, shards, contents, declared
        self._cameras = image_features(header.features)
        self._starts = np.cumsum([0, *(len(records) for records in shards)])
        self._recent: Recent[dict[str, Values]] = Recent(RECORD_BYTES)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Records, (self._header, self._shards, self._contents, self._declared)

    def numbers(self, episodes: range, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        read = [self._episode_numbers(episode) for episode in episodes]
        found = {name: np.concatenate([part[name] for part in read]) for name in read[0]}
        books = self._header.episodes.bookkeeping(episodes, fps=self._header.fps, tasks=self._header.tasks)
        found = books | found
        return {name: values for name, values in found.items() if names is None or name in names}

    def _episode_numbers(self, episode: int) -> dict[str, np.ndarray]:
        """Everything that a record says itself: a change of instruction within it makes its own task_index."""
        contents, table = self._contents, self._header.episodes
        length = int(table.lengths[episode])
        steps, where = length + (not self._declared.last_step), self._where(episode)
        values = self._values(episode, {*contents.numbers, contents.words})
        exact = {place: _numbers(values, place, leaf, steps, where) for place, leaf in contents.numbers.items()}
        _check_ends(exact, where)
        exact = {place: numbers[:length] for place, numbers in exact.items()}
        found = {layout.ACTION: contents.action.join(exact)}
        found |= {layout.STATE: contents.state.join(exact)} if contents.state else {}
        found |= {layout.REWARD: exact[REWARD].reshape(-1, 1).astype(np.float32)} if REWARD in exact else {}
        words = _texts(values, contents.words, length, where) if contents.words else self._header.tasks * length
        found["task_index"] = np.array([self._header.tasks.index(word) for word in words], np.int64)
        return found

    def pictures(self, key: str, rows: Int[np.ndarray, " n"]) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
        table, place, pictures = self._header.episodes, self._contents.cameras[key], {}
        for row, episode in zip(rows.tolist(), table.episode_of(rows).tolist(), strict=True):
            records, index = self._record(episode)
            size = int(records.lengths[index])
            values = self._recent.get(
                episode, lambda e=episode: self._values(e, {*self._contents.pictures}), lambda _, size=size: size
            )
            length, where = int(table.lengths[episode]), self._where(episode)
            file = _files(values, place, length, where)[row - int(table.bounds[episode])]
            if not bytes(file[:8]).startswith(PICTURES):
                raise ConfigError(f"{where}: the picture {place!r} of row {row} is neither PNG nor JPEG.")
            pictures[row] = decode_picture({"bytes": file}, self._cameras[key], where, row)
        return pictures

    def identity(self) -> Iterator[bytes]:
        """The checksums of all records: they stand for every byte."""
        for records in self._shards:
            yield records.checksums.tobytes()

    def _record(self, episode: int) -> tuple[Records, int]:
        shard = int(np.searchsorted(self._starts, episode, side="right")) - 1
        return self._shards[shard], episode - int(self._starts[shard])

    def _values(self, episode: int, wanted: Container[str | None]) -> dict[str, Values]:
        records, index = self._record(episode)
        return _parse(records.read(index), wanted, self._where(episode))

    def _where(self, episode: int) -> str:
        records, index = self._record(episode)
        return f"{records.path}: record {index}"


def _check_ends(values: Mapping[str, np.ndarray], where: str) -> None:
    """A record is one episode: it begins where is_first says and ends where is_last says."""
    for place, ends in ((FIRST, 0), (LAST, -1)):
        if place in values and (not values[place][ends] or values[place].sum() != 1):
            raise ConfigError(
                f"{where}: {place!r} is set at the steps {np.flatnonzero(values[place]).tolist()} of "
                f"{len(values[place])}; a record must be one whole episode."
            )
