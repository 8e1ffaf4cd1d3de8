"""From scores to a choice: keep the best of every task, weigh episodes, name the worst moments; a plain JSON file."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from volar.core.atomic import write_files
from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.curation.scores import Scores, task_groups
from volar.data.dataset import Dataset
from volar.data.normalize import Statistics, exact_statistics
from volar.data.windows import Split, split_episodes

KIND = "curation"
LARGEST: Final = 1e100  # of a weight: sums of many stay finite


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of an episode: frames start (inclusive) to stop (exclusive) within it, and their mean score."""

    episode: int
    start: int
    stop: int
    score: float


def keep_top(
    scores: Float64[np.ndarray, " e"], groups: Int64[np.ndarray, " e"], fraction: float
) -> Bool[np.ndarray, " e"]:
    """The best `fraction` of every group, rounded, and at least one, so that no task vanishes. Of equal scores the
    earlier episode stays. ConfigError for a fraction outside (0, 1]."""
    if not 0 < fraction <= 1:
        raise ConfigError(f"The fraction to keep must be above 0 and at most 1, got {fraction}.")
    kept = np.zeros(len(scores), dtype=bool)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        order = members[np.argsort(-scores[members], kind="stable")]
        kept[order[: max(1, round(fraction * len(members)))]] = True
    return kept


def weights(
    scores: Float64[np.ndarray, " e"], groups: Int64[np.ndarray, " e"], *, temperature: float
) -> Float64[np.ndarray, " e"]:
    """Weights that sum to 1: within a group a softmax of the standardised scores over `temperature`; every group keeps
    the share of its number of episodes. Large temperatures weigh all alike. ConfigError unless it is positive."""
    if not temperature > 0:
        raise ConfigError(f"The temperature must be positive, got {temperature}.")
    found = np.empty(len(scores))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        spread = float(scores[members].std())
        centred = (scores[members] - scores[members].max()) / (spread * temperature if spread else 1.0)
        raised = np.exp(centred)
        found[members] = raised / raised.sum() * len(members) / len(scores)
    return found


def worst_segments(dataset: Dataset, scores: Scores, *, length: int, count: int) -> tuple[Segment, ...]:
    """The `count` stretches of at most `length` frames with the lowest mean score, worst first; episodes are cut into
    such stretches from their beginning. ConfigError where the score says nothing of frames."""
    if scores.frames is None:
        raise ConfigError("This score judges whole episodes; it has nothing to say about segments.")
    if length < 1:
        raise ConfigError(f"A segment has at least 1 frame, got {length}.")
    found = []
    for episode in dataset.episodes:
        for start in range(0, episode.length, length):
            stop = min(start + length, episode.length)
            mean = float(scores.frames[episode.start + start : episode.start + stop].mean())
            found.append(Segment(episode=episode.index, start=start, stop=stop, score=mean))
    return tuple(sorted(found, key=lambda segment: segment.score)[:count])


def choice(dataset: Dataset, scores: Mapping[str, Scores], *, keep: float, temperature: float) -> dict[str, Any]:
    """What `write_choice` stores. Several scores are joined by the mean of an episode's ranks within its task."""
    groups = task_groups(dataset)
    joined = _joined([score.episodes for score in scores.values()], groups)
    kept = keep_top(joined, groups, keep)
    return {
        "kind": KIND,
        "data": dataset.content_hash(),
        "keep": keep,
        "temperature": temperature,
        "episodes": [int(index) for index in np.flatnonzero(kept)],
        "weights": weights(joined, groups, temperature=temperature).tolist(),
        "scores": {name: score.episodes.tolist() for name, score in scores.items()},
        "notes": {name: score.note for name, score in scores.items() if score.note},
    }


def write_choice(path: Path, content: Mapping[str, Any]) -> None:
    """ConfigError where a file is already; a choice that a run was trained on must not change under it."""
    if path.exists():
        raise ConfigError(f"{path} exists already; choose another name, or remove it.")
    write_files({path: json.dumps(content, indent=1, allow_nan=False).encode()})


def _read(path: str | Path) -> Any:
    place = Path(str(path).removeprefix("@"))
    try:
        return json.loads(place.read_text())
    except FileNotFoundError:
        raise ConfigError(f"There is no list of episodes at {place}; `volar data curate` writes one.") from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise ConfigError(f"{place} is not JSON ({error}).") from error


def read_episodes(path: str | Path) -> tuple[int, ...]:
    """Episode indices, ascending, from a file: a plain JSON list of them, or what `volar data curate` wrote. A leading
    "@" is ignored. ConfigError for anything else."""
    content = _read(path)
    listed = content.get("episodes") if isinstance(content, dict) else content
    if not isinstance(listed, list) or not listed or not all(type(index) is int and index >= 0 for index in listed):
        raise ConfigError(f"{path}: expected a list of episode numbers, or an object with such a list as 'episodes'.")
    if len(set(listed)) < len(listed):
        raise ConfigError(f"{path} names an episode twice.")
    return tuple(sorted(listed))


def read_weights(path: str | Path, dataset: Dataset) -> Float64[np.ndarray, " e"]:
    """The weight of every episode of `dataset`, kept or not, from what `volar data curate` wrote, or from an object
    with such a list as "weights". ConfigError for anything else, or where it was written for another data set."""
    content = _read(path)
    listed = content.get("weights") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise ConfigError(f"{path} has no weights; `volar data curate` writes them beside the list of episodes.")
    if len(listed) != len(dataset.episodes) or content.get("data", dataset.content_hash()) != dataset.content_hash():
        raise ConfigError(
            f"{path} weighs {len(listed)} episodes of another data set than {dataset.root}, which has "
            f"{len(dataset.episodes)}; run `volar data curate` on this one."
        )
    bad = [i for i, weight in enumerate(listed) if type(weight) not in (int, float) or not 0 <= weight <= LARGEST]
    if bad:
        raise ConfigError(f"{path}: weights are numbers from 0 to {LARGEST:g}; that of episode {bad[0]} is not.")
    return np.asarray(listed, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a policy learns from. frames: of the kept demonstrations. statistics: feature -> those of their rows.
    identity: names the data and the choice. weights: how often each episode of `split.train` is drawn, relative to its
    number of frames; None for all alike."""

    split: Split
    frames: int
    statistics: Mapping[str, Statistics]
    identity: str
    weights: Float64[np.ndarray, " e"] | None = None


def keep_all(dataset: Dataset, validation: float, seed: int) -> Kept:
    return Kept(
        split=split_episodes(dataset, validation, seed), frames=dataset.num_frames, statistics=dataset.statistics(),
        identity=dataset.content_hash(),
    )  # fmt: skip


def keep_listed(dataset: Dataset, path: str | Path, validation: float, seed: int, *, weighted: bool = False) -> Kept:
    """Only the episodes that the file lists. The split is that of the whole data set, so an episode that validates one
    choice is trained on under no other. weighted: drawn by the file's weights. ConfigError for episodes that are not
    there, or when none is left to train on."""
    listed = read_episodes(path)
    if listed[-1] >= len(dataset.episodes):
        raise ConfigError(
            f"{path} lists episode {listed[-1]}, {dataset.root} has 0 to {len(dataset.episodes) - 1}; it was made for "
            f"another data set."
        )
    whole, chosen = split_episodes(dataset, validation, seed), set(listed)
    split = Split(
        train=tuple(index for index in whole.train if index in chosen),
        validation=tuple(index for index in whole.validation if index in chosen),
    )
    if not split.train:
        raise ConfigError(f"All episodes that {path} lists are held out for validation; list more, or --validation 0.")
    rows = np.concatenate([np.arange(dataset.episodes[i].start, dataset.episodes[i].stop) for i in listed])
    statistics = {
        name: exact_statistics(values[rows].reshape(len(rows), -1))
        for name, values in dataset.arrays.items() if name not in layout.BOOKKEEPING
    }  # fmt: skip
    chosen_by, weights = [json.dumps(listed)], None
    if weighted:
        weights = read_weights(path, dataset)[list(split.train)]
        if not weights.any():
            raise ConfigError(f"{path} gives every episode to train on the weight 0; none could be drawn.")
        chosen_by.append(json.dumps(weights.tolist()))
    digest = hashlib.sha256("".join(chosen_by).encode()).hexdigest()[:16]
    return Kept(
        split=split, frames=len(rows), statistics=statistics, identity=f"{dataset.content_hash()}/{digest}",
        weights=weights,
    )  # fmt: skip


def _joined(scores: list[np.ndarray], groups: np.ndarray) -> Float64[np.ndarray, " e"]:
    if len(scores) == 1:
        return scores[0]
    return np.mean([_ranks(score, groups) for score in scores], axis=0)


def _ranks(scores: np.ndarray, groups: np.ndarray) -> Float64[np.ndarray, " e"]:
    """The share of the group's episodes that score lower, equal ones counting half."""
    found = np.empty(len(scores))
    for group in np.unique(groups):
        members = scores[groups == group]
        lower = (members[None] < members[:, None]).sum(1) + 0.5 * (members[None] == members[:, None]).sum(1)
        found[groups == group] = lower / len(members)
    return found
