"""Features of LeRobot's names made of a format's own: `observation.state` from numbers that it keeps apart.

Says which dimension came from where, by name; the order is given, never found out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped

from volar.data import layout


@dataclass(frozen=True, kw_only=True)
class Part:
    """Numbers of every step under one name. shape: of one step. place: where the format keeps them."""

    dtype: str
    shape: tuple[int, ...]
    place: str


@dataclass(frozen=True)
class Joined:
    """A feature made of named parts, one after another."""

    parts: tuple[tuple[str, Part], ...]

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*(part.dtype for _, part in self.parts))

    def feature(self) -> dict[str, Any]:
        """Its declaration: "pos" of shape [3] gives the dimensions pos_0 to pos_2, one of shape [] pos."""
        names = []
        for name, part in self.parts:
            names += [f"{name}_{i}" for i in range(math.prod(part.shape))] if part.shape else [name]
        return layout.vector(len(names), names, str(self.dtype))

    def join(self, values: Mapping[str, Shaped[np.ndarray, "n ..."]]) -> Shaped[np.ndarray, "n d"]:
        """Of values by place."""
        columns = [values[part.place].reshape(len(values[part.place]), -1) for _, part in self.parts]
        return np.concatenate(columns, axis=1, dtype=self.dtype)


def declare_features(cameras: Mapping[str, Sequence[int]], columns: Mapping[str, Joined]) -> dict[str, dict[str, Any]]:
    """All features as LeRobot v3.0 declares them. cameras: feature key -> height and width. columns: by feature key."""
    features: dict[str, dict[str, Any]] = {
        key: {"dtype": "image", "shape": [*size, 3], "names": ["height", "width", "channels"]}
        for key, size in cameras.items()
    }
    features |= {key: joined.feature() for key, joined in columns.items()}
    return features | {name: layout.vector(1, None, dtype) for name, dtype in layout.BOOKKEEPING.items()}
