"""Milliseconds of one decision of one robot, for all cells but the exact field's: interleaved rounds, one thread.

python bench/decoders/clock.py --out RUN --results docs/results/decoders/clock.json
"""

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from study import Maker
from variants import FIRST_SCENE, PARTS, TASKS

from volar.core.fingerprint import fingerprint
from volar.envs import make_env


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Time what the sweep runs, on a machine that does nothing else."""

    out: Path
    results: Path
    rounds: int = 15


def main(command: Clock) -> None:
    torch.set_num_threads(1)
    cells = {**PARTS["sweep"](), **PARTS["stops"](), **PARTS["tokens"]()}
    maker = Maker(command.out, cells)
    env = make_env(TASKS[0], cameras={})
    env.reset(FIRST_SCENE)
    observation = env.observe(images=False)
    actors = {name: maker(f"{name}@0") for name in cells}
    times: dict[str, list[float]] = {name: [] for name in cells}
    for actor in actors.values():
        actor.reset(0)
        actor.act(observation)
    for round_ in range(command.rounds):
        for name, actor in actors.items():
            actor.reset(round_)
            started = time.perf_counter()
            actor.act(observation)
            times[name].append(1000 * (time.perf_counter() - started))
    medians = {name: round(statistics.median(each), 3) for name, each in times.items()}
    command.results.write_text(
        json.dumps({"milliseconds": medians, "rounds": command.rounds, **fingerprint()}, indent=1)
    )
    print(json.dumps(medians, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Clock))
