"""Which curves of a data set are drawn together, and what their dimensions are called. Draws nothing itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float64

from volar.data import layout
from volar.data.dataset import Dataset

FIRST: Final = (layout.STATE, layout.ACTION, layout.EXECUTED, layout.REWARD)  # the others follow as declared
TITLES: Final = {
    layout.STATE: "State", layout.ACTION: "Action", layout.EXECUTED: "Executed action", layout.REWARD: "Reward",
}  # fmt: skip
MAX_DIMENSIONS: Final = 64  # of a feature; the rest is not drawn


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


def title_of(key: str) -> str:
    return TITLES.get(key, key)


def dimension_names(feature: Mapping[str, Any], dim: int) -> tuple[str, ...]:
    """The declared names, flat; LeRobot allows a list, or lists under a word such as "motors". Otherwise numbers."""
    names = _flat(feature.get("names"))
    return tuple(names) if len(names) == dim else tuple(map(str, range(dim)))


def _flat(names: Any) -> list[str]:
    if isinstance(names, Mapping):
        return [name for inner in names.values() for name in _flat(inner)]
    if isinstance(names, list | tuple):
        return [name for inner in names for name in _flat(inner)]
    return [] if names is None else [str(names)]


def make_panels(dataset: Dataset, ranges: Mapping[str, Float64[np.ndarray, "2 d"]]) -> list[Panel]:
    """ranges: smallest and largest value of every numeric feature to be drawn. Features whose declared dimensions have
    the same names, such as a command and what was executed of it, share a panel."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for key in sorted(ranges, key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST)):
        dim = ranges[key].shape[1]
        names = dimension_names(dataset.features[key], dim)
        named = len(_flat(dataset.features[key].get("names"))) == dim
        groups.setdefault(names if named and dim > 1 else (key,), []).append(key)
    return [_panel(dataset, keys, ranges) for keys in groups.values()]


def _panel(dataset: Dataset, keys: list[str], ranges: Mapping[str, Float64[np.ndarray, "2 d"]]) -> Panel:
    dim = ranges[keys[0]].shape[1]
    names = dimension_names(dataset.features[keys[0]], dim)
    units = ("",) * dim
    if dataset.spec is not None and layout.ACTION in keys:
        units = dataset.spec.action.units
    return Panel(
        title=" and ".join(title_of(key) if i == 0 else title_of(key).lower() for i, key in enumerate(keys)),
        keys=tuple(keys), names=names[:MAX_DIMENSIONS], units=units[:MAX_DIMENSIONS],
        hidden=max(dim - MAX_DIMENSIONS, 0),
        low=np.min([ranges[key][0] for key in keys], axis=0)[:MAX_DIMENSIONS],
        high=np.max([ranges[key][1] for key in keys], axis=0)[:MAX_DIMENSIONS],
    )  # fmt: skip
