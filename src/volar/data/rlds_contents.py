"""Which features of an RLDS step are presented, and as what: cameras, state, action, reward, instruction.

Knows the places where Open X-Embodiment, Bridge and LIBERO conversions keep them; reads nothing but their description.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.declaration import Declaration
from volar.data.joined import Joined, Part
from volar.data.store import Store
from volar.data.tfds import STEPS, Leaf

OBSERVATION, ACTION, REWARD = f"{STEPS}/observation/", f"{STEPS}/action", f"{STEPS}/reward"
METADATA: Final = "episode_metadata/"
FIRST, LAST = f"{STEPS}/is_first", f"{STEPS}/is_last"
# Where conversions keep the instruction; the first that is there counts.
INSTRUCTIONS: Final = tuple(
    f"{STEPS}/{name}"
    for name in ("language_instruction", "natural_language_instruction", "observation/natural_language_instruction",
                 "observation/language_instruction")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What of a data set is presented. cameras: feature key -> place. columns: numeric feature -> what it is made of.

    pictures, numbers, metadata: all that is read of them, by place. words: place of the instruction, None if declared.
    """

    cameras: Mapping[str, str]
    pictures: Mapping[str, Leaf]
    columns: Mapping[str, Joined]
    numbers: Mapping[str, Leaf]
    words: str | None
    metadata: Mapping[str, Leaf]


def choose_contents(leaves: Mapping[str, Leaf], declared: Declaration, store: Store) -> Contents:
    """By what features.json declares. Raises ConfigError if state or action cannot be told, or there are no actions."""
    state = declared.choose("state", _parts(leaves, OBSERVATION), store)
    action = declared.choose("action", _parts(leaves, f"{ACTION}/") or _parts(leaves, ACTION), store)
    if action is None:
        raise ConfigError(f"{store.root} has no actions ({ACTION}); its features are {sorted(leaves)}.")
    pictures = {path: leaf for path, leaf in leaves.items() if leaf.kind == "picture" and path.startswith(OBSERVATION)}
    columns = {layout.ACTION: action} | ({layout.STATE: state} if state else {})
    if reward := _parts(leaves, REWARD):
        columns[layout.REWARD] = Joined(tuple(reward.items()))
    places = [part.place for joined in columns.values() for _, part in joined.parts]
    places += [path for path in (FIRST, LAST) if path in leaves and leaves[path].kind == "number"]
    words = next((path for path in INSTRUCTIONS if path in leaves and leaves[path].kind == "words"), None)
    return Contents(
        cameras={layout.image_key(_short(path, OBSERVATION)): path for path in pictures}, pictures=pictures,
        columns=columns, numbers={path: leaves[path] for path in places},
        words=words if declared.instruction is None else None,
        metadata={path: leaf for path, leaf in leaves.items() if path.startswith(METADATA)
                  and (leaf.kind == "words" or (leaf.kind == "number" and not leaf.shape))},
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
