"""What a policy learns from: one data set or a mixture of several, opened, checked against one another, normalised and
cut into windows. Nothing here knows of gradients."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.model import Batch, FrozenVision
from volar.core.robot import RobotSpec, require_match
from volar.data.curation.select import Kept, keep_all, keep_listed
from volar.data.dataset import Dataset
from volar.data.features import cached_features
from volar.data.formats import open_dataset
from volar.data.mixture import Mixture, part_names, pooled_statistics
from volar.data.normalize import Statistics
from volar.data.windows import WindowBatch, Windows
from volar.policies.compute import feature_flops
from volar.policies.vla import ACTION, PROPRIOCEPTION, Policy
from volar.train.config import TrainConfig
from volar.train.start import read_start, take_weights


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """One data set, and what of it is learned from. cache: where the frozen part's outputs are kept; safe to delete."""

    name: str
    dataset: Dataset
    kept: Kept
    cache: Path


def open_demonstrations(roots: Sequence[str | Path], config: TrainConfig) -> tuple[Demonstrations, ...]:
    """Raises ConfigError where several data sets are given and the config does not say how they are to be mixed."""
    if not roots:
        raise ConfigError("Name at least one data set.")
    if len(roots) > 1 and config.mixture_statistics is None:
        raise ConfigError(
            f"{len(roots)} data sets can be normalised by the statistics of all their rows together, or each by its "
            f"own; neither is always right, so say it: --mixture-statistics pooled, or own."
        )
    if len(roots) > 1 and config.episodes is not None:
        raise ConfigError("A list of episodes belongs to one data set; write the kept ones with `volar data split`.")
    if len(roots) == 1 and (config.mixture_weights or config.mixture_statistics):
        raise ConfigError(f"There is nothing to mix: {roots[0]} is the only data set.")
    if config.mixture_weights and len(config.mixture_weights) != len(roots):
        raise ConfigError(f"{len(roots)} data sets need as many weights, got {list(config.mixture_weights)}.")
    return tuple(
        Demonstrations(name=name, dataset=dataset, kept=kept_episodes(dataset, config), cache=_cache(root))
        for name, root in zip(part_names([str(root) for root in roots]), roots, strict=True)
        for dataset in [open_dataset(root)]
    )


def _cache(root: str | Path) -> Path:
    """Inside a folder; ~/.cache/volar/features for a URL or a single file. The names there tell data sets apart."""
    return Path(root) / ".features" if Path(root).is_dir() else Path.home() / ".cache/volar/features"


def kept_episodes(dataset: Dataset, config: TrainConfig) -> Kept:
    """What the config lets a policy learn from, split into training and validation."""
    if config.episodes is None:
        return keep_all(dataset, config.validation, config.seed)
    weighted = config.episode_weights
    return keep_listed(dataset, config.episodes, config.validation, config.seed, weighted=weighted)


def identity(parts: Sequence[Demonstrations]) -> str:
    """Names the data, their order and what of them is kept."""
    return "+".join(part.kept.identity for part in parts)


def robots_of(parts: Sequence[Demonstrations], config: TrainConfig) -> dict[str, RobotSpec]:
    """The robot of every data set: the same one, or with `mixture_pad` at least one with the same cameras, which are
    then in the same order. Raises ConfigError that lists every point on which two differ and must not."""
    first, *others = parts
    robots = {first.name: (robot := robot_of(first.dataset, config))}
    for part in others:
        own = robot_of(part.dataset, config)
        compared = replace(robot, cameras=own.cameras) if config.mixture_pad else own
        require_match(robot, compared, our_name=first.name, their_name=part.name)
        robots[part.name] = replace(own, cameras=robot.cameras)
    return robots


def robot_of(dataset: Dataset, config: TrainConfig) -> RobotSpec:
    """What the data set's numbers mean: said by itself or by the recipe, never guessed."""
    if dataset.spec is None and config.robot is None:
        raise ConfigError(
            f"{dataset.root} does not say what its actions mean (control mode, rotation, gripper sign, frame, rate). "
            f"Give the recipe a RobotSpec: TrainConfig(robot=RobotSpec(...)), or the data set: `volar data convert "
            f"--robot FILE`."
        )
    if dataset.spec is not None and config.robot is not None:
        require_match(dataset.spec, config.robot, our_name="The data set", their_name="the recipe's robot")
    spec = config.robot or dataset.spec
    assert spec is not None
    if abs(spec.action.rate_hz - dataset.fps) > 1e-6:
        raise ConfigError(f"{dataset.root} has {dataset.fps} frames a second, its actions {spec.action.rate_hz} Hz.")
    return spec


def new_policy(parts: Sequence[Demonstrations], config: TrainConfig) -> Policy:
    """A policy with the weights that the seed names, or those it sets out from, and the statistics of what it will
    learn from."""
    start = None if config.start is None else read_start(Path(config.start), config.policy)
    robots, names = robots_of(parts, config), (ACTION, PROPRIOCEPTION)
    robot = robots[parts[0].name]
    own = {part.name: {name: part.kept.statistics[name] for name in names} for part in parts}
    torch.manual_seed(config.seed)
    assets = None if start is None else start.assets
    if config.mixture_statistics == "own":
        apart = robots if config.mixture_pad else None
        policy = Policy(config.policy, robot=robot, parts=own, robots=apart, assets=assets)
    else:
        statistics: Mapping[str, Statistics] = own[parts[0].name]
        if len(parts) > 1:
            statistics = pooled_statistics([{name: part.dataset.arrays[name] for name in names} for part in parts])
        policy = Policy(config.policy, robot=robot, statistics=statistics, assets=assets)
    if start is not None:
        take_weights(policy, start, where=str(config.start))
    return policy


@dataclass(frozen=True)
class Data:
    """The two splits, ready to be read. frames: of all demonstrations. feature_seconds: what storing the frozen part's
    output took now; feature_flops: what it takes, stored before or not. weights: see `Kept`; only of a single data set.
    labels: how the thoughts were labelled, as the first data set with labels tells; empty where there is no reasoner.
    """

    train: Windows | Mixture
    validation: Windows | Mixture
    frames: int
    feature_seconds: float
    feature_flops: int
    weights: Float64[np.ndarray, " e"] | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)


def prepare_data(parts: Sequence[Demonstrations], policy: Policy, config: TrainConfig, *, progress: bool) -> Data:
    """Stores what the frozen part of the backbone says of every frame, fits a tokenizer and a reasoner, and cuts
    windows."""
    started = time.perf_counter()
    features = {part.name: _features(part, policy, config, progress=progress) for part in parts}
    if config.start is None:  # else it has them from there
        fit_vocabularies(parts, policy, config)
    cameras = [camera.name for camera in policy.robot.cameras]
    flops = sum(feature_flops(policy) * len(found[cameras[0]]) for found in features.values() if found)

    def split(validation: bool) -> Windows | Mixture:
        return _mixed(
            {
                part.name: _windows(
                    part, policy, cameras, features[part.name], stride=config.stride, validation=validation
                )
                for part in parts
            },
            pad=config.mixture_pad,
        )

    seconds = time.perf_counter() - started
    frames, weights = sum(part.kept.frames for part in parts), parts[0].kept.weights
    labels = next((part.dataset.facts["labels"] for part in parts if "labels" in part.dataset.facts), {})
    told = {} if policy.reasoner is None else labels
    return Data(split(False), split(True), frames, seconds, flops, weights, told)


def _features(part: Demonstrations, policy: Policy, config: TrainConfig, *, progress: bool) -> dict[str, np.ndarray]:
    """Camera -> stored outputs of the frozen part; empty where it is computed anew at every step."""
    if not (config.cache_features and isinstance(policy.backbone, FrozenVision)):
        return {}
    backbone, device = policy.backbone, next(policy.parameters()).device

    def compute(images: np.ndarray) -> np.ndarray:
        return backbone.features(torch.from_numpy(images).to(device)).float().cpu().numpy()

    return {
        camera.name: cached_features(
            part.dataset, camera.name, stride=config.stride, key=backbone.features_key(), compute=compute,
            folder=part.cache, progress=progress,
        )
        for camera in policy.robot.cameras
    }  # fmt: skip


def _windows(
    part: Demonstrations, policy: Policy, cameras: Sequence[str], features: Mapping[str, np.ndarray] | None,
    *, stride: int = 1, validation: bool = False,
) -> Windows:  # fmt: skip
    split, reasoner = part.kept.split, policy.reasoner
    needs_pictures = not features or (reasoner is not None and reasoner.uses_images)
    return Windows(
        part.dataset, horizon=policy.config.horizon, cameras=cameras, stride=stride, features=features or None,
        episodes=split.validation if validation else split.train, images=bool(cameras) and needs_pictures,
        thoughts=reasoner is not None,
    )  # fmt: skip


def _mixed(windows: Mapping[str, Windows], *, pad: bool) -> Windows | Mixture:
    return next(iter(windows.values())) if len(windows) == 1 else Mixture(windows, pad=pad)


def fit_vocabularies(parts: Sequence[Demonstrations], policy: Policy, config: TrainConfig) -> None:
    """A tokenizer's and a reasoner's, on at most 20,000 windows of the training split, spread over all of it."""
    windows = _mixed({part.name: _windows(part, policy, (), None) for part in parts}, pad=config.mixture_pad)
    chosen = np.linspace(0, len(windows) - 1, min(len(windows), 20_000)).astype(int)
    raw = windows.__getitems__(chosen.tolist())
    policy.fit_tokenizer(normalised(policy, raw).actions, generator=torch.Generator().manual_seed(config.seed))
    torch.manual_seed(config.seed)  # a reasoner's weights may depend on its vocabulary
    policy.fit_reasoner(raw.thoughts)
    policy.to(next(policy.parameters()).device)


@dataclass(frozen=True)
class Normalised:
    """Proprioception [b p] and actions [b h a] as the network sees them."""

    proprioception: Tensor
    actions: Tensor


def normalised(policy: Policy, raw: WindowBatch) -> Normalised:
    """By the statistics of the policy; in a mixture that keeps them apart, each row by its own data set's. What is
    narrower than the network is continued with zeros."""
    rows = [(slice(None), policy.normalizers[0])]
    if len(policy.normalizers) > 1:
        if raw.part is None:
            raise ConfigError(f"The batch does not say which of {sorted(policy.parts)} its rows are from.")
        rows = [(np.flatnonzero(raw.part == index), own) for index, own in enumerate(policy.normalizers)]
    widths = policy.widths
    proprioception = np.empty((*raw.proprioception.shape[:-1], widths.proprioception), np.float32)
    actions = np.empty((*raw.actions.shape[:-1], widths.action), np.float32)
    for chosen, own in rows:
        p, a = (each.statistics.dim if policy.parts else None for each in (own.proprioception, own.action))
        proprioception[chosen] = own.proprioception.normalize(raw.proprioception[chosen, :p])
        actions[chosen] = own.action.normalize(raw.actions[chosen, :, :a])
    return Normalised(torch.from_numpy(proprioception), torch.from_numpy(actions))


def to_batch(policy: Policy, raw: WindowBatch, device: torch.device) -> Batch:
    """Normalise a batch of windows and move it to the device."""

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device, non_blocking=True)

    numbers = normalised(policy, raw)
    return Batch(
        images={name: torch.from_numpy(image).to(device) for name, image in raw.images.items()},
        features={name: tensor(feature) for name, feature in raw.features.items()},
        instructions=raw.instructions,
        proprioception=numbers.proprioception.to(device, non_blocking=True),
        actions=numbers.actions.to(device, non_blocking=True),
        thoughts=raw.thoughts,
        valid=torch.from_numpy(raw.valid).to(device),
    )
