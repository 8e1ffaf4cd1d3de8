"""Control steps per second of Meta-World by number of workers and by what is rendered, and the cost of its parts.

Run: python bench/simulator.py [--steps 200] [--json FILE]; figures kept: docs/results/simulator.md.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from volar.core.robot import Actor, Chunk, Env, Job, Observation
from volar.envs import make_env
from volar.envs.rollout import rollout

TASK = "metaworld/faucet-open"
HORIZON = 50
EXECUTE = 4
REPEATS = 3
RESULT = Path(__file__).parent.parent / "docs" / "results" / "simulator.md"


class Idle(Actor):
    """Does nothing, `EXECUTE` actions at a time, so that the world is all that is measured."""

    def __init__(self, *, looks: bool) -> None:
        self.uses_images = looks

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: Observation) -> Chunk:
        return Chunk(actions=np.zeros((EXECUTE, 4), dtype=np.float32), execute=EXECUTE)


def environment(size: int, task: str) -> Env:
    return make_env(task, cameras={"corner4": size})


def actor(looks: bool, arm: str) -> Actor:
    return Idle(looks=looks)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is rendered while the world runs."""

    name: str
    size: int
    looks: bool
    frames: str
    steps: int


@dataclass(frozen=True, kw_only=True)
class Speed:
    """per_second: control steps, wall time. cpu_ms: of this process per control step; no worker's share in it."""

    per_second: float
    cpu_ms: float


def conditions(steps: int) -> list[Condition]:
    every_step = [
        Condition(name=f"{size} px every step", size=size, looks=True, frames="all", steps=steps)
        for size in (64, 112, 224)
    ]
    return [
        Condition(name="no pictures", size=112, looks=False, frames="none", steps=5 * steps),
        *every_step,
        Condition(name=f"112 px every {EXECUTE} steps", size=112, looks=True, frames="looks", steps=2 * steps),
    ]


def speed(workers: int, condition: Condition) -> Speed:
    """Without the first episode of every worker, which pays for building and the first picture."""
    each = max(1, workers)
    jobs = [
        Job(task=TASK, seed=seed, arm="idle", max_steps=HORIZON, frames=condition.frames)
        for seed in range(each * (1 + condition.steps // HORIZON))
    ]
    episodes = rollout(
        jobs,
        make_env=partial(environment, condition.size),
        make_actor=partial(actor, condition.looks),
        workers=workers,
    )
    for _ in range(each):
        next(episodes)
    started, cpu = time.perf_counter(), time.process_time()
    done = sum(episode.steps for episode in episodes)
    return Speed(per_second=done / (time.perf_counter() - started), cpu_ms=1000 * (time.process_time() - cpu) / done)


def seconds(call: Callable[[], object], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return median(times)


def parts() -> dict[str, float]:
    """Milliseconds of each part, in one process."""
    env = environment(112, TASK)
    env.reset(0)
    state, zero = env.save(), np.zeros(4, dtype=np.float32)
    found = {
        "step": seconds(lambda: env.step(zero), 200),
        "observe without pictures": seconds(lambda: env.observe(images=False), 200),
        "picture, 112 px": seconds(env.observe, 50),
        "reset": seconds(lambda: env.reset(1), 20),
        "save": seconds(env.save, 200),
        "restore": seconds(lambda: env.restore(state), 200),
        "build": seconds(lambda: environment(112, TASK).close(), 5),
    }
    env.close()
    return {name: round(1000 * value, 3) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="control steps per worker and figure")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    rates: dict[str, dict[str, float]] = {str(workers): {} for workers in (0, 1, 2)}
    cpu: dict[str, float] = {}
    for number in range(REPEATS):  # outermost, so that a busy minute of the machine does not hit one figure only
        for workers, row in rates.items():
            for condition in conditions(options.steps):
                measured = speed(int(workers), condition)
                row[condition.name] = max(row.get(condition.name, 0.0), measured.per_second)
                if workers == "0":
                    cpu[condition.name] = min(cpu.get(condition.name, np.inf), measured.cpu_ms)
        print(f"round {number + 1} of {REPEATS} done, load {os.getloadavg()[0]:.1f}", flush=True)
    costs = parts()
    RESULT.write_text(page(rates, cpu, costs))
    if options.json:
        figures = {"steps_per_second": rates, "cpu_milliseconds_per_step": cpu, "milliseconds": costs}
        options.json.write_text(json.dumps(figures, indent=2))


def page(rates: dict[str, dict[str, float]], cpu: dict[str, float], costs: dict[str, float]) -> str:
    env = environment(112, TASK)
    facts = env.describe()
    env.close()
    names = list(rates["0"])
    machine = f"{platform.machine()}, {os.cpu_count()} cores (load average at the end {os.getloadavg()[1]:.1f}), no GPU"
    lines = [
        "# Simulator speed",
        "",
        f"`python bench/simulator.py`, {time.strftime('%Y-%m-%d')}. Task `{TASK}`, camera `corner4`, an actor that "
        f"does nothing. {facts['simulator']}, mujoco {facts['mujoco']}, {facts['renderer']}; {machine}. Best of "
        f"{REPEATS}; building and first picture left out. Wall figures suffer from other work, CPU time much less.",
        "",
        "Control steps per second of wall time, all workers together (0 = in the calling process); last row: "
        "milliseconds of CPU time per control step in one process:",
        "",
        "| workers | " + " | ".join(names) + " |",
        "|" + "---|" * (len(names) + 1),
        *(
            "| " + " | ".join([workers, *(f"{best:.0f}" for best in row.values())]) + " |"
            for workers, row in rates.items()
        ),
        "| " + " | ".join(["CPU ms per step", *(f"{cpu[name]:.2f}" for name in names)]) + " |",
        "",
        "Milliseconds of each part (median, one process):",
        "",
        "| part | ms |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in costs.items()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
