"""A data set under inspection: what several checks look at, read once. No check is here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from volar.data import layout
from volar.data.dataset import Dataset
from volar.data.inspection.looks import Looks


@dataclass(frozen=True, kw_only=True)
class Vector:
    """A numeric feature [n d] and the name of each of its dimensions."""

    feature: str
    values: Float64[np.ndarray, "n d"]
    names: tuple[str, ...]

    @cached_property
    def varies(self) -> np.ndarray:
        """Of every dimension: does it ever change?"""
        return self.values.min(0) != self.values.max(0)


@dataclass(frozen=True)
class Subject:
    """dataset: what is inspected. looks: sampled pictures by camera key; empty when no pictures were wanted."""

    dataset: Dataset
    looks: Mapping[str, Looks]

    @cached_property
    def vectors(self) -> dict[str, Vector]:
        """Every numeric feature but bookkeeping."""
        return {
            name: Vector(
                feature=name,
                values=values.reshape(self.dataset.num_frames, -1).astype(np.float64),
                names=dimension_names(self.dataset.features[name]),
            )
            for name, values in self.dataset.arrays.items()
            if name not in layout.BOOKKEEPING
        }

    @property
    def state(self) -> Vector | None:
        return self.vectors.get(layout.STATE)

    @property
    def action(self) -> Vector | None:
        return self.vectors.get(layout.ACTION)

    @property
    def motion(self) -> Vector | None:
        """Where the robot is, or for data sets without that what it is told."""
        return self.state or self.action

    def episodes(self, values: Shaped[np.ndarray, "n ..."]) -> Iterator[Shaped[np.ndarray, "t ..."]]:
        """The rows of each episode in turn, as views."""
        return (values[episode.start : episode.stop] for episode in self.dataset.episodes)


def dimension_names(feature: Mapping[str, Any]) -> tuple[str, ...]:
    """One name per dimension: as declared (a list, or lerobot's mapping of lists), else their numbers."""
    width = int(np.prod(feature["shape"]))
    names = feature.get("names")
    if isinstance(names, Mapping):
        names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
    if isinstance(names, list) and len(names) == width:
        return tuple(map(str, names))
    return tuple(map(str, range(width)))
