"""What a folder written by TensorFlow Datasets says of itself: its features and the files of a split. No TensorFlow.

Reads features.json and dataset_info.json as tensorflow_datasets 4.4 and later write them.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from volar.core.errors import ConfigError, unknown_name
from volar.data.store import Store

FEATURES: Final = "features.json"
INFO: Final = "dataset_info.json"
STEPS: Final = "steps"
TEMPLATE: Final = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
LARGEST: Final = 2**26  # numbers in one feature of one step
Kind = Literal["number", "picture", "words", "other"]
# What features.json may call a feature, and what it is here.
_KINDS: Final[Mapping[str, Kind]] = {
    "text": "words", "image": "picture", "tensor": "number", "sequence": "other", "classLabel": "other",
    "video": "other", "audio": "other", "boundingBox": "other", "translation": "other", "jsonFeature": "other",
}  # fmt: skip
_DTYPE: Final = re.compile(r"u?int\d+|b?float\d+|bool|string|object|complex\d+")
_NUMERIC: Final = re.compile(r"(u?int(8|16|32|64)|float(16|32|64)|bool)")


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One feature of a step or an episode. kind: "picture" is RGB; "other" is what nobody here reads, such as depth.

    shape: of one step; -1 for the height and width of pictures that may differ between data sets.
    """

    kind: Kind
    dtype: str = ""
    shape: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of a split, and how many records (episodes) it must hold."""

    name: str
    num_records: int


def read_leaves(store: Store) -> dict[str, Leaf]:
    """Path ("steps/observation/image") -> feature. Raises ConfigError if there are no steps, or the file is damaged."""
    described = _load(store, FEATURES)
    try:
        leaves = dict(_walk("", described))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{store.place(FEATURES)} is damaged or of another version: {error!r}.") from error
    if not any(path.startswith(f"{STEPS}/") for path in leaves):
        raise ConfigError(
            f"{store.place(FEATURES)} declares no {STEPS!r}; it is no RLDS data set. It has {list(leaves)}."
        )
    return leaves


def _walk(path: str, feature: Mapping[str, Any]) -> Iterator[tuple[str, Leaf]]:
    if "featuresDict" in feature:
        for name, inner in feature["featuresDict"]["features"].items():
            yield from _walk(f"{path}/{name}" if path else name, inner)
    elif path == STEPS:
        yield from _walk(path, feature["sequence"]["feature"])
    else:
        yield path, _leaf(feature)


def _leaf(feature: Mapping[str, Any]) -> Leaf:
    """Raises ValueError for what TFDS never writes: a damaged description must not pass for a strange feature."""
    called = next((name for name in _KINDS if name in feature), None)
    if called is None:
        raise ValueError(f"a feature is of no known kind: {sorted(feature)}")
    kind = _KINDS[called]
    if kind not in ("picture", "number"):
        return Leaf(kind=kind)
    content = feature[called]
    dtype, encoding = str(content["dtype"]), content.get("encoding", "none")
    shape = tuple(map(int, content["shape"].get("dimensions", ())))
    if not _DTYPE.fullmatch(dtype) or encoding not in ("none", "bytes", "zlib") or min(shape, default=1) < -1:
        raise ValueError(f"a feature has dtype {dtype!r}, encoding {encoding!r} and shape {shape}")
    if dtype in ("string", "object"):
        return Leaf(kind="other" if shape else "words")
    if kind == "picture":
        readable = (dtype, len(shape), shape[-1:]) == ("uint8", 3, (3,))
    else:
        readable = encoding == "none" and min(shape, default=1) > 0 and _NUMERIC.fullmatch(dtype) is not None
    return Leaf(kind=kind if readable and math.prod(shape) <= LARGEST else "other", dtype=dtype, shape=shape)


def read_split(store: Store, split: str) -> tuple[Shard, ...]:
    """The files of a split, in order. Raises ConfigError for an unknown split or files in another format."""
    info = _load(store, INFO)
    try:
        splits = {described["name"]: described for described in info["splits"]}
        if split not in splits:
            raise unknown_name(f"split of {store.root}", split, splits)
        format, counts = info.get("fileFormat", "tfrecord"), [int(n) for n in splits[split]["shardLengths"]]
        if format != "tfrecord":
            raise ConfigError(f"{store.root} is stored as {format!r}; volar reads TFDS data sets stored as 'tfrecord'.")
        if not counts or min(counts) < 0:
            raise ConfigError(f"{store.place(INFO)}: the split {split!r} has no or negative shard lengths: {counts}.")
        template, names = splits[split].get("filepathTemplate", TEMPLATE), []
        for index in range(len(counts)):
            width = max(5, len(str(len(counts))))
            place = {"SHARD_INDEX": f"{index:0{width}}", "NUM_SHARDS": f"{len(counts):0{width}}"}
            place["SHARD_X_OF_Y"] = f"{place['SHARD_INDEX']}-of-{place['NUM_SHARDS']}"
            names.append(template.format(DATASET=info["name"], SPLIT=split, FILEFORMAT=format, **place))
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ConfigError(f"{store.place(INFO)} is damaged: {error!r}.") from error
    return tuple(Shard(name=name, num_records=count) for name, count in zip(names, counts, strict=True))


def _load(store: Store, name: str) -> Any:
    try:
        return json.loads(store.text(name))
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{store.place(name)} is corrupt: {error}.") from error
