"""The compute ledger of one policy in a comparison: what was counted, measured or recorded, and None for what was not.

Adds up numbers that others determined; nothing is estimated here. Fields: docs/compute.md.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volar.core.atomic import write_files
from volar.core.compute import Counts, Timing
from volar.core.errors import ConfigError
from volar.core.robot import Episode
from volar.evaluation.plain import from_plain

NEWER = ("tokens",)  # what ledgers of volar 0.1 do not tell


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """None is unknown, never zero. Seconds, bytes, joules, FLOPs (1 multiply-add = 2).

    frozen_parameters_forward: parameters that only run forward. training_flops: all steps, and the stored features
    of every frame once. training_environment_steps: frames of the demonstrations.
    chunk_flops: one decision in the mean, with a known instruction; action_flops: the same per action carried out.
    instruction_flops: once per new instruction. evaluations: of the network, thinking included, mean per decision;
    tokens: that it thought, likewise.
    latency_first: a decision that reads a new instruction; latency_median, latency_p95: all others; timed by themselves
    where that was possible, else as the records have them. peak_memory_bytes: while acting.
    energy_joules: of training, decision_energy_joules: of one decision; both of the whole machine, as far as
    energy_sources see it.
    environment_steps: of the evaluation. simulator_steps_by_planner: steps that a planner tried out in a simulator.
    """

    parameters: int | None = None
    trainable_parameters: int | None = None
    frozen_parameters_forward: int | None = None
    training_steps: int | None = None
    training_samples: int | None = None
    training_flops: float | None = None
    training_seconds: float | None = None
    training_environment_steps: int | None = None
    chunk_flops: float | None = None
    action_flops: float | None = None
    instruction_flops: float | None = None
    evaluations: float | None = None
    tokens: float | None = None
    latency_median: float | None = None
    latency_p95: float | None = None
    latency_first: float | None = None
    peak_memory_bytes: int | None = None
    energy_joules: float | None = None
    decision_energy_joules: float | None = None
    energy_sources: tuple[str, ...] = ()
    environment_steps: int | None = None
    simulator_steps_by_planner: int | None = None
    privileged: tuple[str, ...] = ()
    hardware: str = ""
    uncounted: tuple[str, ...] = ()


def ledger_of(
    episodes: Sequence[Episode], *, counts: Counts | None = None, timing: Timing | None = None,
    training: Mapping[str, Any] | None = None, planner_steps: int | None = None, hardware: str = "",
) -> Ledger:  # fmt: skip
    """episodes: of one policy, broken ones included, since they were paid for too. counts, timing: where the policy
    itself is at hand; timing then replaces the records' latencies, which may be those of a batch of episodes.
    training: content of the run's compute.json. planner_steps: 0 for policies that plan nothing; None takes what the
    records count, and is unknown where they count none. hardware: where the latencies come from. ConfigError for a
    compute.json that is none.
    """
    spent = _Training(training or {})
    waited = _waited(episodes) if timing is None else _Waited(timing.first, timing.median, timing.p95)
    decisions = [count for episode in episodes for count in episode.evaluations]
    evaluations = float(np.mean(decisions)) if decisions else None
    steps = sum(episode.steps for episode in episodes)
    chunk = counts.decision_flops(evaluations) if counts is not None else None
    simulated = sum(episode.simulator_steps for episode in episodes) or None
    return Ledger(
        parameters=counts.parameters if counts else spent.whole("parameters"),
        trainable_parameters=counts.trainable_parameters if counts else spent.whole("trainable_parameters"),
        frozen_parameters_forward=counts.frozen_parameters if counts else spent.frozen(),
        training_steps=spent.whole("training_steps"),
        training_samples=spent.whole("training_samples"),
        training_flops=spent.sum("training_flops", "feature_flops"),
        training_seconds=spent.sum("training_seconds", "feature_seconds"),
        training_environment_steps=spent.whole("training_frames"),
        chunk_flops=chunk,
        action_flops=chunk * len(decisions) / steps if chunk is not None and decisions and steps else None,
        instruction_flops=float(counts.instruction_flops) if counts else None,
        evaluations=evaluations,
        tokens=_tokens(episodes, len(decisions), known=counts is not None),
        latency_median=waited.median,
        latency_p95=waited.p95,
        latency_first=waited.first,
        peak_memory_bytes=timing.peak_memory_bytes if timing else None,
        energy_joules=spent.number("energy_joules"),
        decision_energy_joules=timing.energy_joules if timing else None,
        energy_sources=tuple(map(str, (training or {}).get("energy_sources", ()))),
        environment_steps=steps if episodes else None,
        simulator_steps_by_planner=simulated if planner_steps is None else planner_steps,
        privileged=tuple(sorted({each for episode in episodes for each in episode.privileged})),
        hardware=hardware,
        uncounted=counts.uncounted if counts else (),
    )


def _tokens(episodes: Sequence[Episode], decisions: int, *, known: bool) -> float | None:
    """Per decision. known: a record without thoughts says that there were none, and not that nobody wrote them down."""
    thoughts = [thought for episode in episodes for thought in episode.thoughts]
    if not decisions or not (thoughts or known):
        return None
    return sum(thought.tokens for thought in thoughts) / decisions


@dataclass(frozen=True)
class _Waited:
    """Seconds per decision: the first of an episode, and the others."""

    first: float | None
    median: float | None
    p95: float | None


def _waited(episodes: Sequence[Episode]) -> _Waited:
    """From the records; where every episode had one decision only, that is all there is."""
    latencies = [episode.latencies for episode in episodes if episode.latencies]
    if not latencies:
        return _Waited(None, None, None)
    first = [each[0] for each in latencies]
    later = [latency for each in latencies for latency in each[1:]] or first
    return _Waited(float(np.median(first)), float(np.median(later)), float(np.quantile(later, 0.95)))


@dataclass(frozen=True)
class _Training:
    """compute.json, read with care: it may be of an older version or written by somebody else."""

    facts: Mapping[str, Any]

    def number(self, name: str) -> float | None:
        value = self.facts.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ConfigError(f"compute.json: {name!r} must be a number of at least 0, got {value!r}.")
        return float(value)

    def whole(self, name: str) -> int | None:
        value = self.number(name)
        return None if value is None else int(value)

    def sum(self, first: str, once: str) -> float | None:
        """`once` is what storing features cost; absent where nothing was stored."""
        value = self.number(first)
        return None if value is None else value + (self.number(once) or 0.0)

    def frozen(self) -> int | None:
        everything, trainable = self.whole("parameters"), self.whole("trainable_parameters")
        return None if everything is None or trainable is None else everything - trainable


def write_ledgers(path: Path, ledgers: Mapping[str, Mapping[str, Ledger]]) -> None:
    """{arm: {member: Ledger}} as JSON."""
    content = {arm: {name: asdict(each) for name, each in members.items()} for arm, members in ledgers.items()}
    write_files({path: json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode()})


def read_ledgers(path: Path) -> dict[str, dict[str, Ledger]]:
    """What `write_ledgers` wrote. ConfigError naming what is missing, unknown or of another type."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"No compute ledger at {path}; `volar compare` writes it.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}).") from error
    if not isinstance(content, dict) or not all(isinstance(members, dict) for members in content.values()):
        raise ConfigError(f"{path}: expected arm -> member -> ledger.")
    return {
        arm: {
            name: from_plain(Ledger, each, where=f"{path}, {arm!r}, {name!r}", newer=NEWER)
            for name, each in members.items()
        }
        for arm, members in content.items()
    }
