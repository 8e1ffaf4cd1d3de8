"""Claims L1, L2, L3 and L5 about movement primitives set by language, in MuJoCo, on the same scenes for all arms.

python bench/structure/language/study.py run --out ROWS.jsonl [--only L2]     resumable; one process
python bench/structure/language/study.py train --models FOLDER                 the clones of L1, three training seeds

Rows are one JSON object per episode. analyse.py makes the tables.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from arms import make

from volar.core.progress import counting
from volar.core.robot import Env, Job
from volar.envs import make_env
from volar.envs.rollout import run_episode
from volar.reasoning.language.critic import corrections_used

FIRST = 7000  # seed of the first scene
PILLARS = ("obstacle-25", "obstacle-50", "obstacle-75", "obstacle-50-tall")
SCREENS = tuple(f"obstacle-{percent}-screen" for percent in (10, 20, 40, 60, 80))
RAW = ("raw zeros", "raw early", "raw by index", "raw solved")
CORRECTED = (
    *(f"vias, erring, {count} of directions" for count in (1, 2, 3)),
    *(f"vias, erring, {count} of {advice}" for count in (1, 3) for advice in ("random", "bare")),
)
CHAINS = {"horizon-1": 500, "horizon-plan-2": 900, "horizon-plan-4": 1600, "horizon-plan-5": 2000}  # control steps
CLONES = tuple(f"clone@{seed}" for seed in (0, 1, 2))


@dataclass(frozen=True, kw_only=True)
class Part:
    """scenes: per task. steps: control steps, 20 per second."""

    arms: tuple[str, ...]
    tasks: tuple[str, ...]
    scenes: int
    steps: int


PARTS = {
    "L2": Part(arms=("straight", "vias", *RAW), tasks=SCREENS, scenes=200, steps=1200),
    "L2 slow": Part(arms=("slow vias",), tasks=SCREENS[:2], scenes=200, steps=1200),
    "L1": Part(arms=("straight", "vias", *RAW, "waypoints", "expert"), tasks=PILLARS, scenes=60, steps=500),
    "L1 blurred": Part(
        arms=("vias, blurred", "raw early, blurred", "raw solved, blurred", "waypoints, blurred"),
        tasks=PILLARS,
        scenes=60,
        steps=500,
    ),
    "L3": Part(
        arms=("vias", "vias, erring", *CORRECTED),
        tasks=("pick-place-red", "horizon-1", *PILLARS[2:]),
        scenes=50,
        steps=600,
    ),
    "L5": Part(
        arms=("vias", "vias, whole", "vias, forgetful", "vias, whole, forgetful"),
        tasks=tuple(CHAINS),
        scenes=200,
        steps=2000,
    ),
    "waiting": Part(
        arms=("vias, hasty", "vias, hasty, heedless", "raw early, hasty", "raw early, hasty, heedless"),
        tasks=("obstacle-50-tall", "obstacle-40-screen"),
        scenes=100,
        steps=500,
    ),
    "knocked": Part(arms=("vias", "waypoints"), tasks=("horizon-1", "horizon-1-knocked"), scenes=200, steps=600),
    "models, L1": Part(arms=("teacher", "tuned"), tasks=PILLARS, scenes=50, steps=500),
    **{
        f"models, {task}": Part(
            arms=("teacher", "teacher, whole", "tuned", "tuned, whole"), tasks=(task,), scenes=50, steps=steps
        )
        for task, steps in CHAINS.items()
    },
    "models, untuned": Part(
        arms=("teacher", "tuned", "untuned", "untuned, whole"),
        tasks=("horizon-1", "pick-place-red", PILLARS[1]),
        scenes=50,
        steps=500,
    ),
    "clones": Part(arms=CLONES, tasks=PILLARS, scenes=60, steps=500),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Do what is not done yet. scenes: fewer than the part's own, to try it."""

    out: Path
    only: tuple[str, ...] = tuple(part for part in PARTS if part != "clones" and not part.startswith("models"))
    models: Path = Path("models")
    scenes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Train:
    """Demonstrations of the expert on the tasks of L1, and a clone for each training seed."""

    models: Path


def jobs(command: Run) -> Iterator[tuple[str, str, str, int]]:
    """Part, task, arm and scene, scene by scene, so that what is done so far is paired."""
    for name in command.only:
        part = PARTS[name]
        for number in range(min(part.scenes, command.scenes or part.scenes)):
            for task in part.tasks:
                for arm in part.arms:
                    yield name, task, arm, FIRST + number


def run(command: Run) -> None:
    done = set()
    if command.out.exists():
        for line in command.out.read_text().splitlines():
            row = json.loads(line)
            done.add((row["task"], row["arm"], row["seed"]))
    todo = list(dict.fromkeys(job[1:] for job in jobs(command) if job[1:] not in done))
    limits = {(task, arm): part.steps for part in PARTS.values() for task in part.tasks for arm in part.arms}
    envs: dict[str, Env] = {}
    with command.out.open("a") as rows, counting("episodes", len(todo), shown=True) as advance:
        for task, arm, seed in todo:
            name = f"{'tabletop-state' if arm.startswith('clone') else 'tabletop'}/{task}"
            if name not in envs:
                envs[name] = make_env(name, cameras={})
            rows.write(json.dumps(episode(envs[name], name, arm, seed, limits[task, arm], command.models)) + "\n")
            rows.flush()
            advance(1)


def episode(env: Env, task: str, arm: str, seed: int, steps: int, models: Path) -> dict[str, object]:
    actor = make(arm, seed, models)
    found = run_episode(env, actor, Job(task=task, seed=seed, arm=arm, max_steps=steps))
    return {
        "task": task.partition("/")[2], "arm": arm, "seed": seed, "success": found.success,
        "outcome": found.outcome.value, "cause": found.failure.cause if found.failure else "", "steps": found.steps,
        "asked": sum(found.evaluations), "corrections": corrections_used(found.thoughts), "error": found.error,
        "trouble": found.thoughts[-1].words.get("trouble", "") if found.thoughts else "",
    }  # fmt: skip


def train_clones(command: Train) -> None:
    from volar.cli.collect import Collect, collect
    from volar.policies.config import PolicyConfig
    from volar.train.config import TrainConfig
    from volar.train.loop import train

    data = command.models / "data"
    collect(Collect(tasks=tuple(f"tabletop-state/{task}" for task in PILLARS), out=data, episodes=75, max_steps=150,
                    workers=0))  # fmt: skip
    for seed in range(len(CLONES)):
        config = TrainConfig(
            policy=PolicyConfig(
                backbone="state", backbone_options={"width": 64, "depth": 1}, decoder="flow", horizon=16,
                normalise_action="min_max", normalise_proprioception="mean_std",
            ),
            steps=3000, batch=64, seed=seed, validate_every=3000, checkpoint_every=3000, log_every=300,
        )  # fmt: skip
        if not (command.models / f"clone-{seed}" / "checkpoints").exists():
            train(config, data, command.models / f"clone-{seed}", device="cpu")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    chosen = tyro.cli(
        Annotated[Run, tyro.conf.subcommand("run")] | Annotated[Train, tyro.conf.subcommand("train")]  # type: ignore[arg-type]
    )
    run(chosen) if isinstance(chosen, Run) else train_clones(chosen)
