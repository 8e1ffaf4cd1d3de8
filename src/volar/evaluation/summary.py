"""From a run's folder to everything that its report says, as one frozen value that is also `results.json`.

docs/results_schema.md describes the JSON. No drawing, no wording here but the numbers and where they come from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volar.core.errors import ConfigError
from volar.core.robot import Episode, Outcome
from volar.core.thoughts import Thought
from volar.evaluation.films import shown_frames
from volar.evaluation.records import EpisodeRecord, Unpaired, read, unpaired
from volar.evaluation.robustness import RobustnessCurve, robustness_curves
from volar.evaluation.run import RunInfo, read_run
from volar.evaluation.training import Curve, read_curves, read_facts, read_phases
from volar.statistics.intervals import Interval, Pairs, count_pairs, mean_rate, paired_difference, wilson

SCHEMA = "volar.results/1"


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One arm on one task: successes among the scored episodes. broken ones are counted apart and never scored;
    interval is Wilson's at 95 %, None when no episode could be scored."""

    successes: int
    scored: int
    broken: int
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One arm. overall: mean over tasks of the success rates, None unless every task of the run has a scored episode.

    latency_median, latency_p95: seconds per decision. evaluations: decoder evaluations per decision, mean.
    tokens: that it thought per decision, mean. thought_age: looks since the oldest part of a thought was thought, mean
    over decisions. Both None for arms that do not reason.
    steps_to_success: control steps, median. executed_per_chunk: every value that occurred, smallest first.
    """

    name: str
    role: str
    description: str
    tasks: Mapping[str, Rate]
    overall: Interval | None
    decisions: int
    latency_median: float | None
    latency_p95: float | None
    evaluations: float | None
    tokens: float | None
    thought_age: float | None
    steps_to_success: float | None
    executed_per_chunk: tuple[int, ...]
    privileged: tuple[str, ...]

    @property
    def successes(self) -> int:
        return sum(rate.successes for rate in self.tasks.values())

    @property
    def scored(self) -> int:
        return sum(rate.scored for rate in self.tasks.values())

    @property
    def broken(self) -> int:
        return sum(rate.broken for rate in self.tasks.values())


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Success of the policy minus that of another arm, on the scenes that both met (Tango's interval at 95 %).

    tasks: per task, None without common scenes; overall: mean over tasks, None if one is missing.
    pairs: scenes compared; left_out: scenes that differed, broke or were met by one arm only.
    """

    policy: str
    other: str
    tasks: Mapping[str, Interval | None]
    overall: Interval | None
    pairs: int
    left_out: int


@dataclass(frozen=True, kw_only=True)
class Broken:
    """An episode that could not be judged, and why."""

    arm: str
    task: str
    seed: int
    error: str


@dataclass(frozen=True, kw_only=True)
class Film:
    """A kept film. path: relative to the run's folder; instruction: what the arm was told; thoughts: what it told
    itself at each picture of the strip that was a look, empty for arms that do not reason."""

    path: str
    arm: str
    task: str
    seed: int
    outcome: str
    instruction: str
    thoughts: tuple[Thought, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that is known about a run. instructions: task -> what the task's own instruction says, every wording."""

    schema: str
    run: RunInfo
    instructions: Mapping[str, tuple[str, ...]]
    arms: tuple[ArmResult, ...]
    differences: tuple[Difference, ...]
    broken: tuple[Broken, ...]
    unpaired: tuple[Unpaired, ...]
    films: tuple[Film, ...]
    robustness: tuple[RobustnessCurve, ...]
    curves: Mapping[str, Curve]
    compute: Mapping[str, Any]
    phases: Mapping[str, float]

    @property
    def policy(self) -> ArmResult | None:
        """The arm that everything is compared with: the first whose role is `policy`."""
        return next((arm for arm in self.arms if arm.role == "policy"), None)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise(folder: Path) -> Summary:
    """Read run.json, episodes.jsonl and, where present, metrics.jsonl, compute.json, phases.json of `folder`.

    Raises ConfigError when there is no run, no episode in it, a damaged file, or an arm that run.json does not name.
    """
    run = read_run(folder)
    records = read(folder / "episodes.jsonl")
    if not records:
        raise ConfigError(f"{folder} holds no finished episode yet; let `volar evaluate` finish at least one.")
    _require_known(folder, run, records)
    tasks = run.tasks
    arms = tuple(arm_result(run, name, tasks, records) for name in run.arms)
    policy = next((arm.name for arm in arms if arm.role == "policy"), None)
    others = [arm.name for arm in arms if policy is not None and arm.name != policy]
    return Summary(
        schema=SCHEMA, run=run, arms=arms,
        instructions={task: _instructions(record for record in records if record.key[1] == task) for task in tasks},
        differences=tuple(difference(policy, other, tasks, records) for other in others if policy is not None),
        broken=tuple(
            Broken(arm=record.key[0], task=record.key[1], seed=record.key[2], error=record.episode.error or "unknown")
            for record in records if record.episode.success is None
        ),
        unpaired=unpaired(records),
        films=tuple(_film(record) for record in records if record.film is not None),
        robustness=robustness_curves(tasks, tuple(run.arms), records),
        curves=read_curves(folder / "metrics.jsonl"),
        compute=read_facts(folder / "compute.json"),
        phases=read_phases(folder / "phases.json"),
    )  # fmt: skip


def _require_known(folder: Path, run: RunInfo, records: Sequence[EpisodeRecord]) -> None:
    for position, (kind, known) in enumerate((("arm", tuple(run.arms)), ("task", run.tasks), ("seed", run.seeds))):
        if strangers := {record.key[position] for record in records} - set(known):
            raise ConfigError(
                f"{folder / 'episodes.jsonl'} holds {kind} {', '.join(map(repr, sorted(strangers, key=str)))}, which "
                f"run.json does not name; expected {', '.join(map(repr, known))}."
            )


def _instructions(records: Iterable[EpisodeRecord]) -> tuple[str, ...]:
    own = (record.episode.instruction for record in records if record.episode.job.instruction is None)
    return tuple(dict.fromkeys(text for text in own if text))


def _film(record: EpisodeRecord) -> Film:
    (arm, task, seed), episode = record.key, record.episode
    assert record.film is not None
    looks = len(episode.thoughts)
    return Film(
        path=record.film, arm=arm, task=task, seed=seed, outcome=str(episode.outcome), instruction=episode.instruction,
        thoughts=tuple(episode.thoughts[look] for look in shown_frames(looks + 1) if look < looks),
    )  # fmt: skip


def arm_result(run: RunInfo, name: str, tasks: Sequence[str], records: Sequence[EpisodeRecord]) -> ArmResult:
    """What the arm `name` of the run did in these records."""
    episodes = [record.episode for record in records if record.key[0] == name]
    rates = {}
    for task in tasks:
        results = [episode.success for episode in episodes if episode.job.task == task]
        won, scored = results.count(True), len(results) - results.count(None)
        rates[task] = Rate(
            successes=won, scored=scored, broken=results.count(None), interval=wilson(won, scored) if scored else None
        )
    complete = all(rate.scored for rate in rates.values())
    latencies = [seconds for episode in episodes for seconds in episode.latencies]
    evaluations = [count for episode in episodes for count in episode.evaluations]
    thoughts = [thought for episode in episodes for thought in episode.thoughts]
    ages = [max(thought.ages.values(), default=0) for thought in thoughts]
    steps = [episode.steps for episode in episodes if episode.outcome is Outcome.SUCCESS]
    return ArmResult(
        name=name, role=run.arms[name].role, description=run.arms[name].description, tasks=rates,
        overall=mean_rate([rate.successes for rate in rates.values()], [rate.scored for rate in rates.values()])
        if complete else None,
        decisions=len(latencies),
        latency_median=float(np.median(latencies)) if latencies else None,
        latency_p95=float(np.quantile(latencies, 0.95)) if latencies else None,
        evaluations=float(np.mean(evaluations)) if evaluations else None,
        tokens=float(np.mean([thought.tokens for thought in thoughts])) if thoughts else None,
        thought_age=float(np.mean(ages)) if thoughts else None,
        steps_to_success=float(np.median(steps)) if steps else None,
        executed_per_chunk=tuple(sorted({episode.executed_per_chunk for episode in episodes if episode.latencies})),
        privileged=tuple(sorted({used for episode in episodes for used in episode.privileged})),
    )  # fmt: skip


def difference(policy: str, other: str, tasks: Sequence[str], records: Sequence[EpisodeRecord]) -> Difference:
    """Two arms of the records on the scenes that both met."""
    intervals: dict[str, Interval | None] = {}
    pairs: list[Pairs] = []
    left_out = 0
    for task in tasks:
        found = _pairs(policy, other, [record for record in records if record.key[1] == task])
        intervals[task] = paired_difference([found]) if found.total else None
        seeds = {record.key[2] for record in records if record.key[1] == task and record.key[0] in (policy, other)}
        left_out += len(seeds) - found.total
        pairs.append(found)
    return Difference(
        policy=policy, other=other, tasks=intervals, pairs=sum(found.total for found in pairs), left_out=left_out,
        overall=paired_difference(pairs) if all(found.total for found in pairs) else None,
    )  # fmt: skip


def _pairs(policy: str, other: str, records: Iterable[EpisodeRecord]) -> Pairs:
    """Counts over the seeds at which both arms saw the same scene and neither episode broke."""
    scored: dict[str, dict[int, Episode]] = {policy: {}, other: {}}
    for record in records:
        arm, _, seed = record.key
        if arm in scored and record.episode.success is not None:
            scored[arm][seed] = record.episode
    first, second = [], []
    for seed, episode in scored[policy].items():
        partner = scored[other].get(seed)
        if partner is not None and partner.first_observation == episode.first_observation:
            first.append(bool(episode.success))
            second.append(bool(partner.success))
    return count_pairs(np.array(first, dtype=bool), np.array(second, dtype=bool))
