"""Labels of what a policy is to tell itself: read from a data set's language columns, and written into a new one."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from volar.core.errors import ConfigError
from volar.core.thoughts import Thought
from volar.data import layout
from volar.data.cache import Recent
from volar.data.dataset import Dataset
from volar.data.language import LanguageRows, language_rows, language_thoughts
from volar.data.rewrite import Choices, Piece, Rewritten, rewrite, stored_language

KEPT_THOUGHTS = 500_000  # that stay in memory, per data set; frames that follow one another share theirs
_KEPT: weakref.WeakKeyDictionary[Dataset, Recent[tuple[Thought, ...]]] = weakref.WeakKeyDictionary()


def has_thoughts(dataset: Dataset) -> bool:
    return set(layout.LANGUAGE) <= dataset.features.keys()


def read_thoughts(dataset: Dataset, rows: Sequence[int] | Int[np.ndarray, " n"]) -> tuple[Thought, ...]:
    """The labels of rows 0 to num_frames - 1 of the data set, in the order asked. An episode is parsed once, and kept.

    Raises ConfigError if the data set has no labels, or they are damaged.
    """
    if not has_thoughts(dataset):
        raise ConfigError(
            f"{dataset.root} says nothing of what a policy should think. Label it first: "
            f"volar data label {dataset.root} --out NEW --marks point --words subtask move."
        )
    wanted = np.asarray(rows, dtype=np.int64)
    episodes = dataset.episodes.episode_of(wanted)
    kept = _KEPT.setdefault(dataset, Recent(KEPT_THOUGHTS))
    found = {
        episode: kept.get(episode, lambda episode=episode: episode_thoughts(dataset, episode), _distinct)
        for episode in np.unique(episodes).tolist()
    }
    places = (wanted - dataset.episodes.bounds[episodes]).tolist()
    return tuple(found[episode][place] for episode, place in zip(episodes.tolist(), places, strict=True))


def _distinct(thoughts: Sequence[Thought]) -> int:
    return len({id(thought) for thought in thoughts})


def episode_thoughts(dataset: Dataset, episode: int) -> tuple[Thought, ...]:
    """The labels of an episode's frames, read now."""
    times = np.arange(dataset.episodes[episode].length) / dataset.fps
    return language_thoughts(stored_language(dataset, episode), times, where=f"{dataset.root}, episode {episode}")


def write_thoughts(
    dataset: Dataset,
    thoughts: Callable[[int], Sequence[Thought]],
    out: Path,
    *,
    facts: Mapping[str, Any],
    choices: Choices | None = None,
    progress: bool = False,
) -> Rewritten:
    """A copy of the data set whose frames are labelled; the data set itself is not touched, and labels that it had are
    not kept. Goes on where a killed run stopped.

    thoughts: episode -> one per frame. facts: how they came about, plain JSON, kept as `labels` among the data set's
    facts. Raises what `rewrite` raises, and ConfigError for an episode whose thoughts do not fit its frames.
    """

    def labels(episode: int) -> LanguageRows:
        found, length = thoughts(episode), dataset.episodes[episode].length
        if len(found) != length:
            raise ConfigError(f"Episode {episode} has {length} frames, but {len(found)} thoughts were given.")
        return language_rows(found, dataset.fps)

    piece = Piece(dataset=dataset, episodes=tuple(range(len(dataset.episodes))), labels=labels, facts={"labels": facts})
    return rewrite([piece], out, choices=choices, progress=progress)
