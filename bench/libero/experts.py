"""How often LIBERO's scripted expert succeeds, task by task, within the published time limit.

`python bench/libero/experts.py OUT.jsonl --suites spatial object --seeds 0 1 2 3 4`; goes on where it was interrupted.
Seeds below 1000 are scenes of LIBERO's own sampler, from there on the published initial states.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.core.errors import ConfigError
from volar.core.robot import Job
from volar.envs.libero.tasks import tasks_of
from volar.envs.libero.world import Libero
from volar.envs.rollout import run_episode


@dataclass(frozen=True, kw_only=True)
class Study:
    out: tyro.conf.Positional[Path]
    suites: tuple[str, ...] = ("spatial", "object", "goal", "10")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


def main(study: Study) -> None:
    lines = study.out.read_text().splitlines() if study.out.exists() else []
    done = {(record["task"], record["seed"]) for record in map(json.loads, lines)}
    for task in (task for suite in study.suites for task in tasks_of(suite)):
        seeds = [seed for seed in study.seeds if (task.name, seed) not in done]
        if not seeds:
            continue
        env = Libero(task.name, cameras={})
        for seed in seeds:
            job = Job(task=f"libero/{task.name}", seed=seed, arm="expert", max_steps=task.horizon)
            try:
                episode = run_episode(env, env.expert(), job)
            except ConfigError as refused:
                print(f"{task.name}: {refused}", flush=True)
                break
            record = {"task": task.name, "seed": seed, "success": episode.success, "steps": episode.steps}
            if cause := episode.error or (episode.failure and episode.failure.cause):
                record["cause"] = cause
            with study.out.open("a") as file:
                file.write(json.dumps(record) + "\n")
        env.close()


if __name__ == "__main__":
    main(tyro.cli(Study))
