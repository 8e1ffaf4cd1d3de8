"""Can the scripted expert still do the task at every level of the axes that move things? If not, the level is no test
of a policy. Appends one JSON line per perturbed task to OUT and skips those that are there.

    python bench/robustness/experts.py --out docs/results/robustness/experts.jsonl --tasks metaworld/push tabletop/push
"""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.core.progress import counting
from volar.core.robot import Job, Outcome
from volar.envs import make_env, make_expert
from volar.envs.perturbation import LEVELS, TABLE
from volar.envs.perturbation.axis import BeginningAxis
from volar.envs.rollout import run_episode

MOVING = [axis for axis in TABLE if issubclass(TABLE.load(axis), BeginningAxis)]


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Seeds from 0 up; success at any step within MAX_STEPS."""

    tasks: tuple[str, ...]
    out: Path
    seeds: int = 10
    max_steps: int = 500


def measure(name: str, command: Experts) -> dict[str, str | int | float]:
    env, expert = make_env(name, cameras={}), make_expert(name)
    jobs = [Job(task=name, seed=seed, arm="expert", max_steps=command.max_steps) for seed in range(command.seeds)]
    episodes = [run_episode(env, expert, job) for job in jobs]
    env.close()
    return {
        "task": name, "won": sum(each.outcome is Outcome.SUCCESS for each in episodes), "n": command.seeds,
        "broken": sum(each.outcome is Outcome.ERROR for each in episodes),
        "steps": sum(each.steps for each in episodes) / command.seeds,
    }  # fmt: skip


def main(command: Experts) -> None:
    lines = command.out.read_text().splitlines() if command.out.exists() else []
    known = {json.loads(line)["task"] for line in lines}
    names = [
        name for task in command.tasks
        for name in (task, *(f"{task}@{axis}={level}" for axis in MOVING for level in LEVELS)) if name not in known
    ]  # fmt: skip
    command.out.parent.mkdir(parents=True, exist_ok=True)
    with counting("perturbed tasks", len(names), shown=True) as advance:
        for name in names:
            row = measure(name, command)
            with command.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            advance(1)


if __name__ == "__main__":
    main(tyro.cli(Experts))
