"""Which episodes of a data set: listed ones, shares of every task, or one group a task."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from volar.core.errors import ConfigError
from volar.data.curation.select import read_episodes
from volar.data.episodes import EpisodeRows

Episodes = Sequence[EpisodeRows]


def parse_episodes(text: str, count: int) -> tuple[int, ...]:
    """Episodes of a data set with `count` of them: "0-9,12" (both ends included, in the order given), or "@FILE", see
    `read_episodes`. ConfigError for an unknown or repeated one."""
    chosen = read_episodes(text) if text.startswith("@") else _from_ranges(text)
    if outside := sorted({episode for episode in chosen if not 0 <= episode < count}):
        raise ConfigError(f"There are episodes 0 to {count - 1}, asked for {outside[:10]}.")
    if len(set(chosen)) != len(chosen):
        raise ConfigError(
            f"Episodes are named more than once: {sorted({e for e in chosen if chosen.count(e) > 1})[:10]}."
        )
    return chosen


def _from_ranges(text: str) -> tuple[int, ...]:
    chosen: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ConfigError(f"Episodes are given like 0-9,12 or as @FILE, got {part!r} in {text!r}.")
        chosen += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(chosen)


def by_fractions(episodes: Episodes, fractions: Mapping[str, float], seed: int) -> dict[str, tuple[int, ...]]:
    """Group -> episodes, ascending: every task is shared out by the fractions (which sum to 1), in a random order that
    `seed` names. Shares of a task are rounded so that they sum up. ConfigError for an empty group."""
    if any(not 0 < share <= 1 for share in fractions.values()) or not math.isclose(sum(fractions.values()), 1):
        raise ConfigError(f"Fractions must be positive and sum to 1, got {dict(fractions)}; name the rest too.")
    by_task: dict[tuple[str, ...], list[int]] = {}
    for episode in episodes:
        by_task.setdefault(episode.tasks, []).append(episode.index)
    generator = np.random.default_rng(seed)
    groups: dict[str, list[int]] = {name: [] for name in fractions}
    for task in sorted(by_task):
        order = generator.permutation(by_task[task])
        ends = np.rint(np.cumsum(list(fractions.values())) * len(order)).astype(int)
        for name, part in zip(fractions, np.split(order, ends[:-1]), strict=True):
            groups[name] += part.tolist()
    if empty := [name for name, part in groups.items() if not part]:
        raise ConfigError(f"{len(episodes)} episodes are too few for these fractions: nothing is left for {empty}.")
    return {name: tuple(sorted(part)) for name, part in groups.items()}


def by_task(episodes: Episodes) -> dict[str, tuple[int, ...]]:
    """Folder name -> episodes: one group for every instruction, or combination of instructions, of an episode."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for episode in episodes:
        groups.setdefault(episode.tasks, []).append(episode.index)
    named: dict[str, tuple[int, ...]] = {}
    for tasks, part in groups.items():
        words = re.sub(r"[^a-z0-9]+", "-", " ".join(tasks).lower()).strip("-")[:60] or "task"
        name, number = words, 2
        while name in named:
            name, number = f"{words}-{number}", number + 1
        named[name] = tuple(part)
    return named
