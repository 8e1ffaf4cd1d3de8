"""Do the families of tabletop tell policies apart? Oracle, random actions, demonstrations replayed blindly, and
plain clones (regression on the state view, three training seeds) on the same scenes. Resumable.

python bench/tabletop/separation.py run --out RUN [--only memory]    demonstrate, train, run
python bench/tabletop/separation.py long --out RUN                   the oracle alone, on the other tasks
python bench/tabletop/separation.py table --out RUN                  rates with 95 % intervals, as JSON
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from volar.cli.collect import Collect, collect
from volar.core.fingerprint import fingerprint
from volar.core.robot import Actor, Job
from volar.envs import make_env, make_expert
from volar.envs.controls import OpenLoop, RandomActor
from volar.envs.tabletop.tasks.attribute import DESCRIPTIONS
from volar.envs.tabletop.tasks.compose import COMMANDS, TRAINED
from volar.evaluation.episodes import evaluate
from volar.evaluation.records import EpisodeRecord, read
from volar.evaluation.run import Arm, RunInfo, read_run
from volar.policies.config import PolicyConfig
from volar.statistics.intervals import mean_rate
from volar.train.config import TrainConfig

VIEW = "tabletop-state"
TRAININGS = (0, 1, 2)
DEMONSTRATIONS, STEPS, HORIZON, EXECUTE = 100, 1000, 16, 8
SCENES = range(5000, 5050)
LONG_SCENES = range(5000, 5010)
LONG = {
    **dict.fromkeys(("obstacle-50-tall", "obstacle-50-wide", "obstacle-50-narrow"), 130),
    "memory-5": 230, "memory-20": 530, "horizon-plan-5": 550,
    **{f"horizon-{length}{ending}": 110 * length for length in (5, 10, 20, 50) for ending in ("", "-knocked")},
    **{f"chores-{length}": 110 * length for length in (2, 5, 10)},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Study:
    """learned: tasks of the demonstrations. met: task -> control steps until time-out."""

    learned: tuple[str, ...]
    met: dict[str, int]


STUDIES = {
    "obstacle": Study(
        learned=("obstacle-25", "obstacle-50", "obstacle-75"),
        met=dict.fromkeys(("obstacle-25", "obstacle-50", "obstacle-75"), 130),
    ),
    # The same scenes: in memory-0 the lamp shines on, so what differs is only what must be remembered.
    "memory": Study(learned=("memory-0", "memory-1"), met={"memory-0": 130, "memory-1": 130}),
    "horizon": Study(learned=("horizon-2",), met={"horizon-1": 120, "horizon-2": 220}),
    # Two of the commands that were shown, two whose words were shown in other company.
    "compose": Study(
        learned=tuple(name for name in TRAINED if COMMANDS[name].verb == "in"),
        met=dict.fromkeys(
            ("compose-put-red-cube-in-blue-bowl", "compose-put-green-ball-in-yellow-bowl",
             "compose-put-red-cube-in-yellow-bowl", "compose-put-green-ball-in-drawer"), 120,
        ),
    ),
    "attribute": Study(
        learned=tuple(f"attribute-{description}" for description in DESCRIPTIONS),
        met=dict.fromkeys(("attribute-largest", "attribute-left-of-red", "attribute-other-cube"), 120),
    ),
    "drawer": Study(
        learned=("drawer-open", "drawer-close", "button-press"),
        met=dict.fromkeys(("drawer-open", "drawer-close", "button-press"), 80),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run:
    """Do what is not done yet."""

    out: Path
    only: tuple[str, ...] = tuple(STUDIES)
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class Long:
    """The oracle on the other tasks, long chains among them."""

    out: Path
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class Table:
    """Print what was found."""

    out: Path


@dataclass(frozen=True)
class Maker:
    """Makes the actor of an arm in a worker."""

    out: Path
    name: str

    def __call__(self, arm: str) -> Actor:
        task = f"{VIEW}/fork"  # of whatever task: expert and robot are the same for all
        if arm == "expert":
            return make_expert(task)
        if arm == "random":
            return RandomActor(make_env(task).spec)
        if arm == "blind":
            return OpenLoop(mean_actions(self.out / "data" / self.name))
        from volar.policies.actor import load_policy

        return load_policy(self.out / "train" / f"{self.name}-{arm.removeprefix('clone@')}", execute=EXECUTE)


def mean_actions(data: Path) -> np.ndarray:
    """[longest 4]; a demonstration that has ended no longer counts."""
    from volar.data.formats import open_dataset

    dataset = open_dataset(data)
    parts = [dataset.arrays["action"][episode.start : episode.stop] for episode in dataset.episodes]
    steps = range(max(map(len, parts)))
    return np.stack([np.mean([part[step] for part in parts if step < len(part)], axis=0) for step in steps])


def recipe(seed: int) -> TrainConfig:
    return TrainConfig(
        policy=PolicyConfig(
            backbone="state", backbone_options={"width": 64, "depth": 1}, decoder="regression", horizon=HORIZON,
            normalise_action="min_max", normalise_proprioception="mean_std",
        ),
        steps=STEPS, batch=64, seed=seed, validate_every=STEPS, checkpoint_every=STEPS, log_every=100,
    )  # fmt: skip


def run(command: Run) -> None:
    from volar.train.loop import train

    for name in command.only:
        study, data = STUDIES[name], command.out / "data" / name
        each = -(-DEMONSTRATIONS // len(study.learned))
        collect(Collect(tasks=tuple(f"{VIEW}/{task}" for task in study.learned), out=data, episodes=each,
                        max_steps=max(study.met.values()), workers=command.workers))  # fmt: skip
        for seed in TRAININGS:
            folder = command.out / "train" / f"{name}-{seed}"
            if not (folder / "checkpoints").exists():
                train(recipe(seed), data, folder, device="cpu")
        arms = {
            "expert": Arm(role="expert"), "random": Arm(role="random_actions"),
            "blind": Arm(role="other", description="mean action of the demonstrations at every step"),
            **{f"clone@{seed}": Arm(role="policy", description=f"regression, training seed {seed}")
               for seed in TRAININGS},
        }  # fmt: skip
        meet(command, name, arms, study.met, SCENES)


def meet(command: Run | Long, name: str, arms: dict[str, Arm], met: dict[str, int], scenes: range) -> None:
    limits = {f"{VIEW}/{task}": steps for task, steps in met.items()}
    info = RunInfo(
        title=f"separation by {name}", tasks=tuple(limits), seeds=tuple(scenes), arms=arms,
        success_semantics="at any step", settings={"max_steps": limits, "executed_per_chunk": EXECUTE},
        fingerprint=fingerprint(),
    )  # fmt: skip
    jobs = [Job(task=task, seed=seed, arm=arm, max_steps=steps)
            for arm in arms for task, steps in limits.items() for seed in scenes]  # fmt: skip
    evaluate(
        command.out / "runs" / name, info, jobs, make_env=make_env, make_actor=Maker(command.out, name),
        workers=command.workers, together=len(scenes),
    )  # fmt: skip


def rows(out: Path) -> Iterator[dict[str, object]]:
    for path in sorted((out / "runs").glob("*/episodes.jsonl")):
        cells: dict[tuple[str, str], dict[str, list[EpisodeRecord]]] = {}
        for record in read(path):
            arm, task, _ = record.key
            cells.setdefault((task.removeprefix(f"{VIEW}/"), arm.partition("@")[0]), {}).setdefault(arm, []).append(
                record
            )
        for (task, arm), members in sorted(cells.items()):
            successes = [sum(bool(record.episode.success) for record in each) for each in members.values()]
            counts = [len(each) for each in members.values()]
            episodes = [record.episode for each in members.values() for record in each]
            yield {
                "task": task, "arm": arm, "scenes": counts[0], "successes": successes,
                "rate": asdict(mean_rate(successes, counts)),
                "steps_of_successes": _mean([episode.steps for episode in episodes if episode.success]),
                **{key: _mean([episode.tracks[key].last for episode in episodes])
                   for key in ("subtasks_done", "knocks", "recovered") if key in episodes[0].tracks},
                "causes": _causes([e.failure.cause for e in episodes if e.failure is not None]),
            }  # fmt: skip


def _mean(values: list[float] | list[int]) -> float | None:
    return round(float(np.mean(values)), 2) if values else None


def _causes(causes: list[str]) -> dict[str, int]:
    return {cause: causes.count(cause) for cause in sorted(set(causes), key=causes.count, reverse=True)}


if __name__ == "__main__":
    chosen = tyro.cli(
        Annotated[Run, tyro.conf.subcommand("run")]
        | Annotated[Long, tyro.conf.subcommand("long")]
        | Annotated[Table, tyro.conf.subcommand("table")]  # type: ignore[arg-type]
    )
    if isinstance(chosen, Run):
        run(chosen)
    elif isinstance(chosen, Long):
        meet(chosen, "long", {"expert": Arm(role="expert")}, LONG, LONG_SCENES)
    else:
        made = {run.name: read_run(run).fingerprint for run in sorted((chosen.out / "runs").iterdir())}
        lines = ",\n  ".join(json.dumps(row) for row in rows(chosen.out))
        print(f'{{"rows": [\n  {lines}\n ],\n "fingerprints": {json.dumps(made)}}}')
