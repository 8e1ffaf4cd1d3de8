"""The statistics that a data set carries with it, against its data. volar computes its own; other programs trust these.

lerobot up to 0.6 averages the quantiles of episodes, which is not the quantile of the whole (lerobot issue 4156): such
data sets are told apart from wrong ones.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from jaxtyping import Float64

from volar.data import layout
from volar.data.findings import Finding, error, note, warning
from volar.data.inspection.subject import Subject, Vector
from volar.data.parquet import read_tables
from volar.data.store import Store
from volar.data.summaries import QUANTILES

EPISODE_LINES: Final = "meta/episodes_stats.jsonl"  # LeRobot v2.1
RANK: Final = 0.02  # by which a stored quantile may miss; histograms and sampling explain that much
SHARE: Final = 1e-3  # of a standard deviation by which a mean may miss, and of itself a standard deviation
PIXELS: Final = 0.15  # by which a mean brightness (0 to 1) may differ from that of a few pictures
REMEDY: Final = (
    "Run `volar data stats PATH --write` (before v3.0: `volar data convert`); volar itself never uses what is stored."
)


def stored_statistics(subject: Subject) -> Iterator[Finding]:
    """meta/stats.json, or in LeRobot v2.1 that the statistics of the episodes are there instead."""
    store, version = subject.dataset.store, subject.dataset.format
    if not version.startswith("LeRobot"):  # others name and cut features differently
        return
    if not store.has(layout.STATS):
        needed = EPISODE_LINES if version.startswith("LeRobot v2.1") else layout.STATS
        if not store.has(needed):
            yield warning("missing-statistics", f"there is no {needed}; lerobot cannot train on it", REMEDY)
        return
    try:
        stored = json.loads(store.text(layout.STATS))
        if not isinstance(stored, Mapping):
            raise ValueError(f"a mapping of features was expected, it is a {type(stored).__name__}")
    except ValueError as problem:  # a ConfigError is one
        yield error("unreadable-statistics", f"{layout.STATS}: {problem}", REMEDY)
        return
    yield from _pictures(subject, stored)
    for name, vector in subject.vectors.items():
        if name not in stored:
            yield warning("missing-statistics", f"{layout.STATS} lacks {name!r}", REMEDY, feature=name)
            continue
        if wrong := contradiction(stored[name], vector.values, vector.names):
            yield warning("wrong-statistics", wrong, REMEDY, feature=name)
        elif missed := missed_quantile(stored[name], vector):
            yield note("averaged-quantiles", missed, REMEDY, feature=name)


def episode_statistics(subject: Subject) -> Iterator[Finding]:
    """What is stored per episode, from which lerobot computes the whole when data sets are merged or edited."""
    if not subject.dataset.format.startswith("LeRobot"):
        return
    try:
        stored = dict(_episode_statistics(subject.dataset.store))
    except (ValueError, KeyError, TypeError) as problem:
        yield error("unreadable-statistics", f"statistics of the episodes: {problem}", REMEDY)
        return
    for episode in subject.dataset.episodes:
        for name, vector in subject.vectors.items():
            own = stored.get(episode.index, {}).get(name)
            rows = vector.values[episode.start : episode.stop]
            if own and (wrong := contradiction(own, rows, vector.names)):
                yield warning(
                    "wrong-statistics", f"stored for this episode: {wrong}",
                    "Write the data set anew (`volar data convert`); volar itself never uses what is stored.",
                    feature=name, episode=episode.index,
                )  # fmt: skip


def _episode_statistics(store: Store) -> Iterator[tuple[int, dict[str, dict[str, Any]]]]:
    if store.has(EPISODE_LINES):
        for line in store.text(EPISODE_LINES).splitlines():
            if line.strip():
                row = json.loads(line)
                yield row["episode_index"], row["stats"]
        return
    paths = [store.path(name) for name in store.files("meta/episodes") if name.endswith(".parquet")]
    if not paths:
        return
    for row in read_tables(paths, lambda name: name == "episode_index" or name.startswith("stats/")).to_pylist():
        found: dict[str, dict[str, Any]] = {}
        for column, value in row.items():
            if column.startswith("stats/") and value is not None:
                feature, _, kind = column.removeprefix("stats/").rpartition("/")
                found.setdefault(feature, {})[kind] = value
        yield row["episode_index"], found


def contradiction(stored: Mapping[str, Any], values: Float64[np.ndarray, "n d"], names: tuple[str, ...]) -> str:
    """The first number of `stored` that the rows contradict, in words; "" if none does. Quantiles are only held
    against minimum and maximum."""
    low, high, spread = values.min(0), values.max(0), values.std(0)
    rounding = 1e-6 * np.maximum(np.abs(low), np.abs(high)) + 1e-9
    exact = {"min": (low, 0 * spread), "max": (high, 0 * spread), "mean": (values.mean(0), SHARE * spread),
             "std": (spread, SHARE * spread)}  # fmt: skip
    try:
        count = int(np.ravel(stored["count"])[0])
        if count != len(values):
            return f"count is {count}, there are {len(values)} frames"
        for kind, (truth, slack) in exact.items():
            if wrong := _first_off(
                kind, stored[kind], truth - slack - rounding, truth + slack + rounding, truth, names
            ):
                return wrong
        for kind in QUANTILES.keys() & stored.keys():
            slack = SHARE * (high - low)
            if wrong := _first_off(kind, stored[kind], low - slack - rounding, high + slack + rounding, None, names):
                return wrong
    except (KeyError, TypeError, ValueError, IndexError) as problem:
        return f"they are damaged ({problem!r})"
    return ""


def _first_off(
    kind: str, stored: Any, lowest: np.ndarray, highest: np.ndarray, truth: np.ndarray | None, names: tuple[str, ...]
) -> str:
    numbers = np.asarray(stored, dtype=np.float64).ravel()
    if numbers.shape != lowest.shape:
        return f"{kind} has {len(numbers)} numbers for {len(lowest)} dimensions"
    off = np.flatnonzero(~((numbers >= lowest) & (numbers <= highest)))
    if not len(off):
        return ""
    d = int(off[0])
    due = f"{lowest[d]:.6g} to {highest[d]:.6g} at most" if truth is None else f"{truth[d]:.6g}"
    return f"{kind} of {names[d]!r} is {numbers[d]:.6g}, by the data {due} ({len(off)} of {len(names)} dimensions)"


def missed_quantile(stored: Mapping[str, Any], vector: Vector) -> str:
    """The stored quantile that misses its rank by most, in words; "" if none misses by more than RANK."""
    worst, said = RANK, ""
    for kind in QUANTILES.keys() & stored.keys():
        numbers = np.asarray(stored[kind], dtype=np.float64).ravel()
        slack = 1e-4 * (vector.values.max(0) - vector.values.min(0)) + 1e-9
        below, up_to = (vector.values < numbers - slack).mean(0), (vector.values <= numbers + slack).mean(0)
        missed = np.maximum(below - QUANTILES[kind], QUANTILES[kind] - up_to) - 1 / len(vector.values)
        d = int(missed.argmax())
        if missed[d] > worst:
            worst = missed[d]
            said = f"{kind} of {vector.names[d]!r} is {numbers[d]:.4g}, which {below[d]:.1%} of the frames lie below"
    return said


def _pictures(subject: Subject, stored: Mapping[str, Any]) -> Iterator[Finding]:
    """Of pictures only gross errors can be told: another range, or other pictures altogether."""
    for camera, looks in subject.looks.items():
        key = subject.dataset.require_camera(camera)
        if key not in stored:
            yield warning("missing-statistics", f"{layout.STATS} lacks {key!r}", REMEDY, feature=key)
            continue
        try:
            mean = np.asarray(stored[key]["mean"], dtype=np.float64).ravel()
        except (KeyError, TypeError, ValueError) as problem:
            yield warning("wrong-statistics", f"they are damaged ({problem!r})", REMEDY, feature=key)
            continue
        seen = [one.thumbnails.mean((0, 1, 2)) for one in looks.episodes.values()]
        truth = np.mean(seen, axis=0) / 255 if seen else mean
        if mean.shape != (3,) or not (np.abs(mean - truth) <= PIXELS).all():
            yield warning(
                "wrong-statistics",
                f"mean of the channels is {np.round(mean, 3).tolist()}, of the pictures looked at "
                f"{np.round(truth, 3).tolist()} (0 to 1)", REMEDY, feature=key,
            )  # fmt: skip
