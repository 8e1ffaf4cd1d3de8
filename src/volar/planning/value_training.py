"""Fits a value head to what came of a policy's own roll-outs (V-VLAPS, arXiv 2601.00969), and says how well it
foretells on scenes apart: over all states, and among branches of one state, which is what a search asks it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from volar.core.errors import ConfigError
from volar.core.fingerprint import fingerprint
from volar.core.progress import counting
from volar.planning.value import balanced, histogram_gauss, sibling_ranking
from volar.planning.value_config import ValueConfig
from volar.planning.value_examples import Examples, gather
from volar.planning.value_head import HIDDEN, ValueHead, save_value
from volar.policies.actor import load_policy

BINS = 51  # of HL-Gauss
JUDGED = 2000  # states that a ranking over all states is judged on: it compares every pair
FLOOR = 0.1  # of the learning rate at the end, as published


def train_value(
    config: ValueConfig, data: Sequence[str | Path], out: Path, *, device: str = "cpu", progress: bool = True
) -> dict[str, float | int | None]:
    """Train a head on data sets of `volar data rollouts` and `volar data branches` and save it in `out`, a checkpoint.

    Returns how well it foretells, see `judged`. Takes seconds once the features are there, which a second training
    finds beside the data, so it is not resumed but begun anew. Raises ConfigError before anything is computed when
    policy, data and settings do not fit.
    """
    if config.policy is None:
        raise ConfigError("Say whose value is to be learned: --policy CHECKPOINT.")
    if out.exists():
        raise ConfigError(f"{out} exists already; a value is trained in one go and never overwritten.")
    if not data:
        raise ConfigError("Name at least one data set of `volar data rollouts` or `volar data branches`.")
    actor = load_policy(config.policy, execute=1, device=device)
    examples = gather(data, actor, config, progress=progress)
    split = held_out(examples, config)
    head = fit(examples.rows(~split), config, progress=progress)
    facts = judged(head, examples, split, config)
    save_value(
        out, head, policy=config.policy, actor=actor, config=config.to_json(),
        facts={**facts, "data": [str(root) for root in data], **fingerprint()},
    )  # fmt: skip
    return facts


def held_out(examples: Examples, config: ValueConfig) -> np.ndarray:
    """True for examples of scenes that are not learned from. ConfigError for fewer than two scenes."""
    scenes = np.unique(examples.scenes)
    if len(scenes) < 2:
        raise ConfigError("All roll-outs begin in the same scene; at least one more is needed to judge a value on.")
    count = min(max(1, round(config.validation * len(scenes))), len(scenes) - 1)
    return np.isin(examples.scenes, np.random.default_rng(config.seed).permutation(scenes)[:count])


def fit(examples: Examples, config: ValueConfig, *, progress: bool) -> ValueHead:
    """The trained head. Raises ConfigError for a ranking without branches that differ."""
    random = np.random.default_rng([config.seed, 1])
    generator = torch.Generator().manual_seed(config.seed)
    if config.control == "shuffled":
        examples = replace(examples, targets=random.permutation(examples.targets))
    task = _ranking(examples) if config.target == "ranking" else _regression(examples, config, random)
    inputs = torch.from_numpy(task.examples.times[:, None] if config.control == "time" else task.examples.features)
    head = ValueHead(
        inputs.shape[1], hidden=HIDDEN * task.examples.features.shape[1], members=config.members,
        outputs=BINS if config.target == "hl_gauss" else 1, generator=generator,
    )  # fmt: skip
    head.standardise(inputs)
    if config.control == "random":
        return head
    per_epoch = -(-task.items // config.batch)
    optimizer = torch.optim.Adam(head.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _cosine(config.epochs * per_epoch))
    with counting("value", config.epochs, shown=progress) as advance:
        for _ in range(config.epochs):
            drawn = np.stack([random.permutation(task.items) for _ in range(config.members)])
            for start in range(0, task.items, config.batch):
                loss = task.loss(head, inputs, drawn[:, start : start + config.batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            advance(1)
    return head.eval()


def _cosine(steps: int) -> Callable[[int], float]:
    return lambda step: FLOOR + (1 - FLOOR) * 0.5 * (1 + np.cos(np.pi * min(step / steps, 1.0)))


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What is learned from `items` examples or pairs. loss(head, inputs, [e b] numbers of items for each member)."""

    examples: Examples
    items: int
    loss: Callable[[ValueHead, Tensor, Int64[np.ndarray, "e b"]], Float[Tensor, ""]]


def _regression(examples: Examples, config: ValueConfig, random: np.random.Generator) -> _Task:
    kept = examples.rows(balanced(examples.targets, random=random)) if config.balance else examples
    if not kept.targets.any():
        raise ConfigError("No scene that is learned from was solved, so every return is 0; record more roll-outs.")
    classes = config.target == "hl_gauss"
    targets = torch.from_numpy(histogram_gauss(kept.targets, bins=BINS) if classes else kept.targets).float()

    def loss(head: ValueHead, inputs: Tensor, rows: np.ndarray) -> Tensor:
        said = head(inputs[rows])
        if classes:
            return -(targets[rows] * said.log_softmax(-1)).sum(-1).mean(1).sum()
        return F.mse_loss(said[..., 0], targets[rows], reduction="none").mean(1).sum()

    return _Task(examples=kept, items=len(kept), loss=loss)


def _ranking(examples: Examples) -> _Task:
    """Pairs of branches of one state: better first."""
    pairs = better_pairs(examples)
    if not len(pairs):
        raise ConfigError(
            "A ranking learns from branches of one state that ended differently, and there are none; record some by "
            "`volar data branches`, or take the target 'mse'."
        )

    def loss(head: ValueHead, inputs: Tensor, rows: np.ndarray) -> Tensor:
        better, worse = (head(inputs[pairs[rows, column]])[..., 0] for column in (0, 1))
        return F.softplus(worse - better).mean(1).sum()

    return _Task(examples=examples, items=len(pairs), loss=loss)


def better_pairs(examples: Examples) -> Int64[np.ndarray, "m 2"]:
    """Rows (better, worse) of every two branches of one state whose returns differ."""
    found = [np.zeros((0, 2), np.int64)]
    for group in np.unique(examples.groups[examples.groups >= 0]):
        rows = np.flatnonzero(examples.groups == group)
        first, second = np.nonzero(examples.targets[rows][:, None] > examples.targets[rows][None])
        found.append(np.stack([rows[first], rows[second]], axis=1))
    return np.concatenate(found)


def judged(head: ValueHead, examples: Examples, split: np.ndarray, config: ValueConfig) -> dict[str, Any]:
    """On scenes that were not learned from: `ranking`, over all states together, and `sibling_ranking`, among branches
    of one state: shares of pairs in the right order, None where there is no pair; `error`, root mean square."""
    kept = np.flatnonzero(split)
    if len(kept) > JUDGED:
        kept = np.sort(np.random.default_rng(config.seed).choice(kept, JUDGED, replace=False))
    apart, branches = examples.rows(kept), examples.rows(split & (examples.groups >= 0))
    values = foretold(head, apart, config)
    order = _or_none(values, apart.targets, np.zeros(len(apart), np.int64))
    siblings = _or_none(foretold(head, branches, config), branches.targets, branches.groups)
    error = None if config.target == "ranking" else float(np.sqrt(np.mean((values - apart.targets) ** 2)))
    return {
        "examples": len(examples), "held_out": int(split.sum()), "solved": float((examples.targets > 0).mean()),
        "ranking": order, "sibling_ranking": siblings, "error": error,
    }  # fmt: skip


def foretold(head: ValueHead, examples: Examples, config: ValueConfig) -> Float[np.ndarray, " n"]:
    """Mean of the members."""
    inputs = examples.times[:, None] if config.control == "time" else examples.features
    return head.values(torch.from_numpy(inputs)).mean(0)


def _or_none(values: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> float | None:
    try:
        return sibling_ranking(values, targets, groups)
    except ConfigError:
        return None
