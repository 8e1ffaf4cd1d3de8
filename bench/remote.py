"""What the way to a remote environment costs: the same steps, pictures and saved states here and behind a socket of
this machine, by turns in one run. Threads that hand a message on wait for a core: the least of the rounds is what the
way itself costs, the median what it costs beside whatever else the machine was doing (`load`).

    python bench/remote.py docs/results/remote_bench.json
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from volar.core.fingerprint import fingerprint
from volar.core.robot import Env, RestorableEnv
from volar.envs import make_env
from volar.serving.environments import EnvironmentServer

TASKS = ("toy/reach-red", "tabletop/push", "metaworld/faucet-open")
ROUNDS, STEPS = 61, 5  # per round, and of each kind


def stepping(env: Env) -> None:
    """What the loop of an episode asks in every step in which nobody looks."""
    action = np.zeros(env.spec.action.dim, np.float32)
    for _ in range(STEPS):
        env.observe(images=False)
        env.measure()
        env.step(action)


def looking(env: Env) -> None:
    for _ in range(STEPS):
        env.observe()


def restoring(env: Env) -> None:
    assert isinstance(env, RestorableEnv)
    for _ in range(STEPS):
        env.restore(env.save())


def seconds(work: Callable[[Env], None], env: Env) -> float:
    """Per call, from a fresh episode."""
    env.reset(0)
    started = time.perf_counter()
    work(env)
    return (time.perf_counter() - started) / STEPS


def bench(task: str, address: str) -> dict[str, object]:
    direct, remote = make_env(task), make_env(f"remote/{address}/{task}")
    rows: dict[str, object] = {"pictures": [f"{each.width}x{each.height}" for each in direct.spec.cameras]}
    for work in (stepping, looking, restoring):
        here, there = [], []
        for _ in range(ROUNDS):
            here.append(seconds(work, direct))
            there.append(seconds(work, remote))
        here, there = here[1:], there[1:]  # the first round warms caches
        for name, values in (("direct", here), ("remote", there)):
            rows[f"{work.__name__}_{name}_ms"] = {
                "least": round(1e3 * min(values), 4), "median": round(1e3 * statistics.median(values), 4)
            }  # fmt: skip
    direct.close()
    remote.close()
    return rows


def main(out: Path) -> None:
    with EnvironmentServer(sorted({task.partition("/")[0] for task in TASKS})) as server:
        results = {task: bench(task, server.address) for task in TASKS}
    settings = {"rounds": ROUNDS - 1, "calls_per_round": STEPS, "load": os.getloadavg()}
    out.write_text(json.dumps({**settings, "tasks": results, "fingerprint": fingerprint()}, indent=1) + "\n")
    print(out.read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
