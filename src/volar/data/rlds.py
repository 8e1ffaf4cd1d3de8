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
from volar.data.declaration import Declaration, find_declaration
from volar.data.episodes import EpisodeTable
from volar.data.joined import declare_features
from volar.data.media import decode_picture, image_features
from volar.data.rlds_contents import FIRST, LAST, METADATA, Contents, choose_contents
from volar.data.store import Store
from volar.data.tfds import Leaf, Shard, read_leaves, read_split
from volar.data.tfrecord import Records, Values, index_records, parse_example

FORMAT: Final = "RLDS"
PICTURES: Final = (b"\x89PNG", b"\xff\xd8\xff")  # how the files of the two kinds that TFDS writes begin
RECORD_BYTES: Final = 512 * 2**20  # of records with pictures kept in memory


def open_rlds(store: Store, options: Options) -> Dataset:
    """Open one split of a folder with features.json and dataset_info.json; see `volar.data.formats.open_dataset`.

    The split is "train" unless another part is declared. Texts and single numbers of episode_metadata are the source
    of an episode. Raises ConfigError as there, and for what is neither said nor declared.
    """
    declared = options.declared or find_declaration(store)
    leaves, split = read_leaves(store), declared.part or "train"
    contents = choose_contents(leaves, declared, store)
    shards = tuple(_index(store, shard) for shard in read_split(store, split))
    fps = declared.rate(None, store, FORMAT)
    sizes = _picture_sizes(shards, contents, store)
    features = declare_features({key: sizes[place] for key, place in contents.cameras.items()}, contents.columns)
    declared.check_robot(features, store)
    survey = _survey(shards, contents, declared, store)
    header = Header(
        store=store, format=FORMAT, fps=fps, features=features, episodes=survey.table, tasks=survey.tasks,
        info={"format": FORMAT, "split": split, "features": features, "declared": declared.to_json()},
        spec=declared.robot, facts={"split": split},
    )  # fmt: skip
    return Dataset(header, _Records(header, shards, contents, declared), options)


@dataclass(frozen=True, kw_only=True)
class _File:
    """A shard, and where its records lie."""

    name: str
    records: Records


def _index(store: Store, shard: Shard) -> _File:
    records = index_records(store.path(shard.name), store.place(shard.name))
    if len(records) != shard.num_records:
        raise ConfigError(
            f"{records.where} holds {len(records)} records, declared are {shard.num_records}; copy it again."
        )
    return _File(name=shard.name, records=records)


@dataclass(frozen=True, kw_only=True)
class _Survey:
    """What opening learns of the episodes: their table, and the instructions by task index."""

    table: EpisodeTable
    tasks: tuple[str, ...]


def _survey(shards: Iterable[_File], contents: Contents, declared: Declaration, store: Store) -> _Survey:
    """A first look into every record, without reading its pictures."""
    counted = contents.columns[layout.ACTION].parts[0][1].place
    said = None if contents.words else declared.require_instruction(None, store, FORMAT)
    wanted = {counted, contents.words, *contents.metadata}
    lengths, tasks, sources = [], [], []
    for shard in shards:
        for index, view in enumerate(shard.records.peek(store.path(shard.name))):
            where = f"{shard.records.where}: record {index}"
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
            text = leaf.kind == "words"
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


def _picture_sizes(shards: Sequence[_File], contents: Contents, store: Store) -> dict[str, tuple[int, int]]:
    """Height and width by place: as declared, or where it is left open those of the first picture."""
    found = {place: (leaf.shape[0], leaf.shape[1]) for place, leaf in contents.pictures.items()}
    open_places = {place for place, size in found.items() if min(size) < 1}
    first = next((shard for shard in shards if len(shard.records)), None)
    if open_places and first is not None:
        where = f"{first.records.where}: record 0"
        values = _parse(first.records.read(store.path(first.name), 0), open_places, where)
        for place in open_places:
            try:
                picture = Image.open(io.BytesIO(_files(values, place, 1, where)[0]), formats=("PNG", "JPEG"))
            except (OSError, ValueError, SyntaxError) as error:
                raise ConfigError(f"{where}: {place!r} begins with a corrupt picture: {error}.") from error
            found[place] = (picture.height, picture.width)
    return found


class _Records(Source):
    """Episodes as records of TFRecord files. Remembers the last ones whose pictures were asked for."""

    def __init__(self, header: Header, shards: tuple[_File, ...], contents: Contents, declared: Declaration) -> None:
        self._header, self._shards, self._contents, self._declared = header, shards, contents, declared
        self._cameras = image_features(header.features)
        self._starts = np.cumsum([0, *(len(shard.records) for shard in shards)])
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
        found = {name: joined.join(exact) for name, joined in contents.columns.items()}
        words = _texts(values, contents.words, length, where) if contents.words else self._header.tasks * length
        found["task_index"] = np.array([self._header.tasks.index(word) for word in words], np.int64)
        return found

    def pictures(self, key: str, rows: Int[np.ndarray, " n"]) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
        table, pictures = self._header.episodes, {}
        for row, episode in zip(rows.tolist(), table.episode_of(rows).tolist(), strict=True):
            content = self._picture_file(key, episode, row - int(table.bounds[episode]))
            pictures[row] = decode_picture({"bytes": content}, self._cameras[key], self._where(episode), row)
        return pictures

    def stored(self, key: str, episode: int) -> list[bytes]:
        length = int(self._header.episodes.lengths[episode])
        return [self._picture_file(key, episode, step) for step in range(length)]

    def _picture_file(self, key: str, episode: int, step: int) -> bytes:
        shard, index = self._record(episode)
        size = int(shard.records.lengths[index])
        values = self._recent.get(episode, lambda: self._values(episode, {*self._contents.pictures}), lambda _: size)
        length, place = int(self._header.episodes.lengths[episode]), self._contents.cameras[key]
        content = bytes(_files(values, place, length, self._where(episode))[step])
        if not content.startswith(PICTURES):
            raise ConfigError(f"{self._where(episode)}: the picture {place!r} of step {step} is neither PNG nor JPEG.")
        return content

    def identity(self) -> Iterator[bytes]:
        """The checksums of all records: they stand for every byte."""
        for shard in self._shards:
            yield shard.records.checksums.tobytes()

    def _record(self, episode: int) -> tuple[_File, int]:
        shard = int(np.searchsorted(self._starts, episode, side="right")) - 1
        return self._shards[shard], episode - int(self._starts[shard])

    def _values(self, episode: int, wanted: Container[str | None]) -> dict[str, Values]:
        shard, index = self._record(episode)
        content = shard.records.read(self._header.store.path(shard.name), index)
        return _parse(content, wanted, self._where(episode))

    def _where(self, episode: int) -> str:
        shard, index = self._record(episode)
        return f"{shard.records.where}: record {index}"


def _check_ends(values: Mapping[str, np.ndarray], where: str) -> None:
    """A record is one episode: it begins where is_first says and ends where is_last says."""
    for place, ends in ((FIRST, 0), (LAST, -1)):
        if place in values and (not values[place][ends] or values[place].sum() != 1):
            raise ConfigError(
                f"{where}: {place!r} is set at the steps {np.flatnonzero(values[place]).tolist()} of "
                f"{len(values[place])}; a record must be one whole episode."
            )
