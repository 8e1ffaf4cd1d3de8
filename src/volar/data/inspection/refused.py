"""Episodes whose numbers `open_dataset` refuses: all of them, not only the first, each with its place."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from volar.core.errors import ConfigError
from volar.data.dataset import Dataset
from volar.data.findings import Finding, error

GAP: Final = 1.5  # frame intervals between two frames, from which one is missing
REMEDY: Final = "Repair the episode, or leave it out."


def refused_episodes(dataset: Dataset) -> Iterator[Finding]:
    """dataset: opened lazily, so that nothing has been refused yet."""
    for episode in range(len(dataset.episodes)):
        try:
            dataset.numbers(range(episode, episode + 1))
        except ConfigError as refusal:
            found = list(_diagnosis(dataset, episode))
            yield from found or [error("unreadable-numbers", str(refusal), REMEDY, episode=episode)]


def _diagnosis(dataset: Dataset, episode: int) -> Iterator[Finding]:
    try:
        unchecked = dataset.source.numbers(range(episode, episode + 1))
    except ConfigError:
        return
    for name, values in unchecked.items():
        bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))
        if len(bad):
            yield error(
                "not-finite", f"{len(bad)} of {len(values)} frames hold NaN or infinite numbers", REMEDY,
                feature=name, episode=episode, start=int(bad[0]), stop=int(bad[-1]) + 1,
            )  # fmt: skip
    steps = np.diff(unchecked["timestamp"]) * dataset.fps if "timestamp" in unchecked else np.empty(0)
    for frame in np.flatnonzero(steps > GAP)[:1]:
        yield error(
            "time-gap",
            f"{steps[frame] / dataset.fps:.3f} s lie between two frames {(steps > GAP).sum()} times; at "
            f"{dataset.fps:g} frames a second it should be {1 / dataset.fps:.3f} s",
            "Frames were dropped: cut the episode there, or record it again.",
            feature="timestamp", episode=episode, start=int(frame), stop=int(frame) + 2,
        )  # fmt: skip
