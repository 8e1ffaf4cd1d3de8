"""Which curves of a data set are drawn together, and what their dimensions are called. Draws nothing itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float64

from volar.data import layout
from volar.data.dataset import Dataset
from volar.data.episodes import EpisodeRows
from volar.data.inspection.subject import dimension_names

FIRST: Final = (layout.STATE, layout.ACTION, layout.EXECUTED, layout.REWARD)  # the others follow as declared
TITLES: Final = {
    layout.STATE: "State", layout.ACTION: "Action", layout.EXECUTED: "Executed action", layout.REWARD: "Reward",
}  # fmt: skip
MAX_DIMENSIONS: Final = 64  # of a feature; the rest is not drawn

Ranges = Mapping[str, Float64[np.ndarray, "2 d"]]  # feature -> smallest and largest value of every dimension


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Features with the same dimensions, one small chart per dimension, one line per feature.

    keys: the features. names, units: one per dimension; a unit that nobody declared is empty. hidden: how many
    dimensions beyond `MAX_DIMENSIONS` there are. low, high: over everything that is shown.
    """

    title: str
    keys: tuple[str, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    hidden: int
    low: Float64[np.ndarray, " d"]
    high: Float64[np.ndarray, " d"]

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title, "labels": [title_of(key) for key in self.keys], "keys": self.keys,
            "names": self.names, "units": self.units, "hidden": self.hidden,
            "low": self.low.tolist(), "high": self.high.tolist(),
        }  # fmt: skip


def episode_values(dataset: Dataset, key: str, episode: EpisodeRows) -> Float64[np.ndarray, "t d"]:
    rows = np.arange(episode.start, episode.stop)
    return dataset.rows(key, rows).reshape(episode.length, -1).astype(np.float64)


def value_ranges(dataset: Dataset, episodes: Sequence[EpisodeRows]) -> Ranges:
    """Smallest and largest values over the episodes of every numeric feature that is no bookkeeping."""
    ranges: dict[str, Float64[np.ndarray, "2 d"]] = {}
    for episode in episodes:  # not feature by feature: a lazily opened data set reads an episode at a time
        for key in dataset.numeric:
            if key not in layout.BOOKKEEPING:
                values = np.concatenate(
                    [episode_values(dataset, key, episode), *([ranges[key]] if key in ranges else [])]
                )
                ranges[key] = np.stack([values.min(0), values.max(0)])
    return ranges


def title_of(key: str) -> str:
    return TITLES.get(key, key)


def make_panels(dataset: Dataset, ranges: Ranges) -> list[Panel]:
    """Of every feature in `ranges`. Those whose declared dimensions have the same names, such as a command and what was
    executed of it, share a panel."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for key in sorted(ranges, key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST)):
        names = dimension_names(dataset.features[key])
        said = len(names) > 1 and names != tuple(map(str, range(len(names))))
        groups.setdefault(names if said else (key,), []).append(key)
    return [_panel(dataset, keys, ranges) for keys in groups.values()]


def _panel(dataset: Dataset, keys: list[str], ranges: Ranges) -> Panel:
    names = dimension_names(dataset.features[keys[0]])
    units = ("",) * len(names)
    if dataset.spec is not None and layout.ACTION in keys:
        units = dataset.spec.action.units
    return Panel(
        title=" and ".join(title_of(key) if i == 0 else title_of(key).lower() for i, key in enumerate(keys)),
        keys=tuple(keys), names=names[:MAX_DIMENSIONS], units=units[:MAX_DIMENSIONS],
        hidden=max(len(names) - MAX_DIMENSIONS, 0),
        low=np.min([ranges[key][0] for key in keys], axis=0)[:MAX_DIMENSIONS],
        high=np.max([ranges[key][1] for key in keys], axis=0)[:MAX_DIMENSIONS],
    )  # fmt: skip
