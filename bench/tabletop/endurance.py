"""Does memory stay flat over ten thousand episodes, and what does an exact save and restore cost? Prints JSON.

python bench/tabletop/endurance.py [--task tabletop/horizon-5-knocked] [--episodes 10000]
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from volar.core.fingerprint import fingerprint
from volar.core.robot import RestorableEnv
from volar.envs import make_env


@dataclass(frozen=True, kw_only=True)
class Endurance:
    """Every episode: reset, a picture, STEPS random steps, save, one step, restore, the same step again."""

    task: str = "tabletop/horizon-5-knocked"
    episodes: int = 10_000
    steps: int = 5


def resident() -> float:
    """MB of this process in memory, Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def endure(command: Endurance) -> dict[str, object]:
    env = make_env(command.task)
    assert isinstance(env, RestorableEnv)
    random, inexact = np.random.default_rng(0), 0
    state = b""
    saves, restores = np.zeros((2, command.episodes))
    steps = np.zeros((command.episodes, command.steps))
    memory: dict[int, float] = {}
    for episode in range(command.episodes):
        env.reset(episode)
        env.observe()
        actions = random.uniform(-1, 1, (command.steps, env.spec.action.dim)).astype(np.float32)
        for number, action in enumerate(actions):
            started = time.perf_counter()
            env.step(action)
            steps[episode, number] = time.perf_counter() - started
        started = time.perf_counter()
        state = env.save()
        saves[episode] = time.perf_counter() - started
        first = (env.step(actions[0]), env.digest())
        started = time.perf_counter()
        env.restore(state)
        restores[episode] = time.perf_counter() - started
        inexact += env.save() != state or (env.step(actions[0]), env.digest()) != first
        if episode + 1 in (100, 1000) or (episode + 1) % (command.episodes // 4) == 0:
            memory[episode + 1] = round(resident(), 1)
    env.close()
    median = {name: round(float(np.median(times)) * 1e6, 1)
              for name, times in (("step", steps), ("save", saves), ("restore", restores))}  # fmt: skip
    return {"task": command.task, "episodes": command.episodes, "resident_megabytes_after_episodes": memory,
            "median_microseconds": median, "state_bytes": len(state), "inexact_restores": inexact,
            "fingerprint": fingerprint()}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(endure(tyro.cli(Endurance)), indent=1))
