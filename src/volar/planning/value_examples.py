"""What a value learns from: states of roll-outs of the policy itself, and branches of one state, with their returns and
the policy's features of them, which are computed once and kept beside the data."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from safetensors.numpy import load_file, save

from volar.core.atomic import write_files
from volar.core.progress import counting
from volar.core.robot import Observation, require_match
from volar.data import layout
from volar.data.curation.success import outcomes
from volar.data.dataset import Dataset
from volar.data.episodes import EpisodeRows
from volar.data.formats import open_dataset
from volar.data.windows import selected_frames
from volar.planning.value import returns
from volar.planning.value_config import ValueConfig
from volar.planning.value_head import checkpoint_hash, readout, require_policy
from volar.policies.actor import PolicyActor

ROWS = 64  # observations that the policy reads at once


@dataclass(frozen=True, kw_only=True)
class Examples:
    """features: of the policy. targets: discounted return. times: seconds since the episode began. groups: states that
    branched from the same one share a number of their own, all others have -1. scenes: number of the task and seed."""

    features: Float32[np.ndarray, "n d"]
    targets: Float64[np.ndarray, " n"]
    times: Float32[np.ndarray, " n"]
    groups: Int64[np.ndarray, " n"]
    scenes: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, chosen: Int64[np.ndarray, " m"] | Bool[np.ndarray, " n"]) -> "Examples":
        return Examples(
            features=self.features[chosen], targets=self.targets[chosen], times=self.times[chosen],
            groups=self.groups[chosen], scenes=self.scenes[chosen],
        )  # fmt: skip


def open_rollouts(root: str | Path, actor: PolicyActor, policy: Path) -> Dataset:
    """A data set of `volar data rollouts` or `volar data branches`. Raises ConfigError where it is of another policy
    or robot, does not say who succeeded, or where all ended alike."""
    dataset = open_dataset(root)
    require_policy(dataset.facts.get("policy"), policy, what=f"What was recorded in {root}")
    if dataset.spec is not None:
        require_match(actor.policy.robot, dataset.spec, our_name="The policy's robot", their_name=f"that of {root}")
    outcomes(dataset)
    return dataset


def gather(roots: Sequence[str | Path], actor: PolicyActor, config: ValueConfig, *, progress: bool) -> Examples:
    """All examples of all data sets, in their order. Raises ConfigError as `open_rollouts` does."""
    assert config.policy is not None
    datasets = [open_rollouts(root, actor, config.policy) for root in roots]
    scenes: dict[tuple[str, int], int] = {}
    groups: dict[tuple[str, int, int], int] = {}
    parts = []
    for root, dataset in zip(roots, datasets, strict=True):
        rows = selected_frames(dataset, config.stride)
        features = _features(
            dataset, rows, actor, checkpoint_hash(config.policy), _cache(root), progress=progress
        )  # fmt: skip
        told = [_told(episode, dataset.fps, config, scenes, groups) for episode in dataset.episodes]
        whole = {name: np.concatenate([each[name] for each in told]) for name in told[0]}
        parts.append(Examples(features=features, **{name: values[rows] for name, values in whole.items()}))
    names = ("features", "targets", "times", "groups", "scenes")
    return Examples(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in names})


def _cache(root: str | Path) -> Path:
    """Beside the data; ~/.cache/volar/features for a URL. The names there tell data sets apart."""
    return Path(root) / ".features" if Path(root).is_dir() else Path.home() / ".cache/volar/features"


def _told(
    episode: EpisodeRows, fps: float, config: ValueConfig, scenes: dict[tuple[str, int], int],
    groups: dict[tuple[str, int, int], int],
) -> dict[str, np.ndarray]:  # fmt: skip
    """Targets, times, groups and scenes of every frame of an episode."""
    source, frames = episode.source, episode.length
    scene = scenes.setdefault((source["task"], source["seed"]), len(scenes))
    if "step" in source:  # a branch, see `branches.py`: one state, and what came of it
        group = groups.setdefault((source["task"], source["seed"], source["step"]), len(groups))
        ended = [0.0 if left is None else config.discount**left for left in source["steps_to_success"]]
        targets, first = np.array([np.mean(ended)]), source["step"] + source["edge"]
    else:
        group, first = -1, 0
        targets = returns(frames, success=source["success"], discount=config.discount)
    return {
        "targets": targets, "times": ((first + np.arange(frames)) / fps).astype(np.float32),
        "groups": np.full(frames, group), "scenes": np.full(frames, scene),
    }  # fmt: skip


def _features(
    dataset: Dataset, rows: Int64[np.ndarray, " n"], actor: PolicyActor, policy: str, folder: Path, *, progress: bool
) -> Float32[np.ndarray, "n d"]:
    """Read from `folder` where they were computed before."""
    identity = json.dumps([policy, dataset.content_hash(), rows.tolist()]).encode()
    path = folder / f"readout-{hashlib.sha256(identity).hexdigest()[:20]}.safetensors"
    if path.is_file():
        return load_file(path)["features"]
    parts = []
    with counting("features", len(rows), shown=progress) as advance:
        for start in range(0, len(rows), ROWS):
            seen = observations_at(dataset, rows[start : start + ROWS], actor)
            parts.append(readout(actor, seen))
            advance(len(seen))
    features = np.concatenate(parts)
    write_files({path: save({"features": features})})
    return features


def observations_at(dataset: Dataset, rows: Int64[np.ndarray, " n"], actor: PolicyActor) -> list[Observation]:
    """What the policy saw at these frames; times are those within the recording."""
    cameras = [camera.name for camera in actor.policy.robot.cameras]
    pictures = {name: dataset.frames(name, rows, keep=False) for name in cameras}
    states, tasks = dataset.rows(layout.STATE, rows).astype(np.float32), dataset.rows("task_index", rows)
    seconds = dataset.rows("timestamp", rows)
    return [
        Observation(
            images={name: frames[i] for name, frames in pictures.items()}, proprioception=states[i],
            instruction=dataset.tasks[int(tasks[i])], time=float(seconds[i]),
        )
        for i in range(len(rows))
    ]  # fmt: skip
