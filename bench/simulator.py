"""What our environments cost beside the simulator alone: steps, pictures, saved states, processes, memory.

Run: python bench/simulator.py [--steps 200] [--episodes 10000]; writes docs/results/simulator.md and simulator.json.
Bare: MuJoCo's own `mj_step` on the same model with the same controls, as many substeps, and nothing else.
"""

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from volar.core.robot import Actor, Chunk, Env, Job, Observation
from volar.envs import make_env
from volar.envs.metaworld import MetaWorld
from volar.envs.offscreen import mujoco
from volar.envs.rollout import rollout, run_episode
from volar.envs.tabletop.world import SUBSTEPS, Tabletop

TASKS = (
    "tabletop/push", "tabletop/pick-place-red", "tabletop/attribute-largest", "metaworld/faucet-open",
    "metaworld/pick-place",
)  # fmt: skip
CAMERAS = {"tabletop": "front", "metaworld": "corner4"}
EXECUTE, ROUNDS, STEPS_TIMED = 4, 7, 100
RESULTS = Path(__file__).parent.parent / "docs" / "results"


class Replay(Actor):
    """Carries out given actions, `EXECUTE` at a time, so that the world is all that is measured."""

    def __init__(self, actions: np.ndarray, *, looks: bool = False) -> None:
        self.uses_images, self._actions, self._next = looks, actions, 0

    def reset(self, seed: int) -> None:
        self._next = 0

    def act(self, observation: Observation) -> Chunk:
        self._next += EXECUTE
        return Chunk(actions=self._actions[self._next - EXECUTE : self._next], execute=EXECUTE)


def actions(count: int) -> np.ndarray:
    return np.clip(np.random.default_rng(0).normal(0, 0.5, (count, 4)), -1, 1).astype(np.float32)


def cpu(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Microseconds of CPU time per control step. package: Meta-World's own `step`. loop: an episode by `run_episode`,
    everything in it, recording and measures included."""

    bare: float
    step: float
    loop: float
    package: float | None = None


def parts(task: str) -> Parts:
    env, sent = make_env(task, cameras={}), actions(STEPS_TIMED)
    world = env.unwrapped
    job = Job(task=task, seed=1, arm="replay", max_steps=STEPS_TIMED)
    calls: dict[str, Callable[[], object]] = {"reset": lambda: env.reset(1)}
    controls = []
    env.reset(1)
    if isinstance(world, Tabletop):
        model, data, substeps = world._model, world._data, SUBSTEPS
        for action in sent:
            env.step(action)
            controls.append((data.ctrl.copy(), None))
    else:
        assert isinstance(world, MetaWorld)
        inner = world._env
        model, data, substeps = inner.model, inner.data, inner.frame_skip
        for action in sent:
            env.step(action)
            controls.append((data.ctrl.copy(), data.mocap_pos.copy()))
        calls["package"] = lambda: (env.reset(1), [inner.step(action) for action in sent])

    def bare() -> None:
        env.reset(1)
        for ctrl, mocap in controls:
            data.ctrl[:] = ctrl
            if mocap is not None:
                data.mocap_pos[:] = mocap
            mujoco.mj_step(model, data, substeps)

    calls["bare"] = bare
    calls["step"] = lambda: (env.reset(1), [env.step(action) for action in sent])
    calls["loop"] = lambda: run_episode(env, Replay(sent), job)
    best = dict.fromkeys(calls, np.inf)
    for _ in range(ROUNDS):  # by turns, so that a busy moment of the machine hits all alike
        for name, call in calls.items():
            best[name] = min(best[name], cpu(call))
    env.close()
    each = {name: 1e6 * (value - best["reset"]) / STEPS_TIMED for name, value in best.items() if name != "reset"}
    return Parts(**each)


def pictures(task: str) -> dict[str, float]:
    """Milliseconds of CPU time per picture of 96 px: `observe`, and MuJoCo's renderer with the same settings."""
    camera = CAMERAS[task.partition("/")[0]]
    env = make_env(task, cameras={camera: 96})
    env.reset(1)
    env.observe()
    world: Any = env.unwrapped
    renderer = next(iter(world.pictures._renderers.values()))
    data = world._data if isinstance(world, Tabletop) else world._env.data

    def bare() -> None:
        renderer.update_scene(data, camera=camera)
        renderer.render()

    best = {"observe": np.inf, "bare": np.inf}
    for _ in range(ROUNDS):
        for name, call in (("observe", env.observe), ("bare", bare)):
            best[name] = min(best[name], cpu(lambda call=call: [call() for _ in range(20)]) / 20)
    env.close()
    return {name: 1000 * value for name, value in best.items()}


def states(task: str) -> dict[str, float]:
    """Microseconds of CPU time, medians."""
    env: Any = make_env(task, cameras={})
    env.reset(1)
    for action in actions(20):
        env.step(action)
    state = env.save()
    found = {}
    for name, call in (("save", env.save), ("restore", lambda: env.restore(state))):
        found[name] = 1e6 * median(cpu(lambda call=call: [call() for _ in range(50)]) / 50 for _ in range(ROUNDS))
    env.restore(state)
    found["bytes"] = float(len(state))
    assert env.save() == state
    env.close()
    return found


def environment(size: int, task: str) -> Env:
    return make_env(task, cameras={CAMERAS[task.partition("/")[0]]: size})


def actor(horizon: int, looks: bool, arm: str) -> Actor:
    return Replay(actions(horizon), looks=looks)


def throughput(task: str, workers: int, *, looks: bool, steps: int) -> float:
    """Control steps per second of wall time, all workers together; building and the first picture left out."""
    horizon, each = 50, max(1, workers)
    jobs = [
        Job(task=task, seed=seed, arm="replay", max_steps=horizon, frames="all" if looks else "none")
        for seed in range(each * (1 + steps // horizon))
    ]
    episodes = rollout(
        jobs, make_env=partial(environment, 96), make_actor=partial(actor, horizon, looks), workers=workers
    )
    for _ in range(each):
        next(episodes)
    began = time.perf_counter()
    return sum(episode.steps for episode in episodes) / (time.perf_counter() - began)


def memory(task: str, episodes: int) -> dict[str, int]:
    """Largest resident set of this process in MB after a tenth of the episodes (of 4 steps), and after all."""
    env, found = make_env(task, cameras={}), {}
    for number in range(episodes):
        run_episode(env, Replay(actions(4)), Job(task=task, seed=number, arm="replay", max_steps=4))
        if number + 1 in (episodes // 10, episodes):
            found[str(number + 1)] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    env.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="control steps per worker and figure")
    parser.add_argument("--episodes", type=int, default=10_000, help="of the memory test")
    options = parser.parse_args()
    figures: dict[str, Any] = {"parts": {}, "pictures": {}, "states": {}, "per_second": {}, "memory": {}}
    for task in TASKS:
        figures["parts"][task] = vars(parts(task))
        figures["pictures"][task] = pictures(task)
        figures["states"][task] = states(task)
        print(task, figures["parts"][task], flush=True)
    for task in (TASKS[1], TASKS[3]):
        for looks in (False, True):
            steps = options.steps if looks else 10 * options.steps
            name = f"{task}, {'96 px every step' if looks else 'no pictures'}"
            figures["per_second"][name] = {w: throughput(task, w, looks=looks, steps=steps) for w in (0, 1, 2)}
            print(name, figures["per_second"][name], flush=True)
    for task in (TASKS[0], TASKS[3]):
        figures["memory"][task] = memory(task, options.episodes)
    figures["machine"] = {
        "cpu": platform.machine(), "cores": os.cpu_count(), "load_at_the_end": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"), **make_env(TASKS[0], cameras={}).describe(),
    }  # fmt: skip
    RESULTS.joinpath("simulator.json").write_text(json.dumps(figures, indent=1) + "\n")
    RESULTS.joinpath("simulator.md").write_text(page(figures))


def page(figures: dict[str, Any]) -> str:
    machine = figures["machine"]
    lines = [
        "# Simulator speed",
        "",
        f"`python bench/simulator.py`, {machine['date']}; mujoco {machine['mujoco']}, {machine['renderer']}; "
        f"{machine['cpu']}, {machine['cores']} cores (load at the end {machine['load_at_the_end']:.1f}), no GPU. CPU "
        f"time, best of {ROUNDS} by turns, unless wall time is named. All figures: [simulator.json](simulator.json).",
        "",
        "Microseconds per control step without pictures. Bare: `mj_step` on the same model with the same controls. "
        "Loop: a whole episode of 100 steps with its measures and its record, divided by its steps:",
        "",
        "| task | bare | `env.step` | over bare | loop | over bare | the package's own `step` |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, row in figures["parts"].items():
        package = "-" if row["package"] is None else f"{row['package']:.0f}"
        lines.append(
            f"| `{task}` | {row['bare']:.0f} | {row['step']:.0f} | {row['step'] / row['bare'] - 1:+.0%} | "
            f"{row['loop']:.0f} | {row['loop'] / row['bare'] - 1:+.0%} | {package} |"
        )
    lines += [
        "",
        "A picture of 96 px in milliseconds, by `observe` and by MuJoCo's renderer under the same settings; with one "
        "at every step, the loop's share beside physics and picture:",
        "",
        "| task | `observe` | bare | over bare | bare step and picture | loop and `observe` | over bare |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, row in figures["pictures"].items():
        part = figures["parts"][task]
        both, ours = row["bare"] + part["bare"] / 1000, row["observe"] + part["loop"] / 1000
        lines.append(
            f"| `{task}` | {row['observe']:.2f} | {row['bare']:.2f} | {row['observe'] / row['bare'] - 1:+.0%} | "
            f"{both:.2f} | {ours:.2f} | {ours / both - 1:+.0%} |"
        )
    lines += ["", "Saved states, microseconds (median), exact: a restored state saves to the same bytes:", "",
              "| task | save | restore | bytes |", "|---|---|---|---|"]  # fmt: skip
    for task, row in figures["states"].items():
        lines.append(f"| `{task}` | {row['save']:.0f} | {row['restore']:.0f} | {row['bytes']:.0f} |")
    lines += ["", "Control steps per second of wall time, all workers together (0: in the calling process):", "",
              "| task | 0 | 1 | 2 |", "|---|---|---|---|"]  # fmt: skip
    for name, row in figures["per_second"].items():
        lines.append(f"| {name} | " + " | ".join(f"{value:.0f}" for value in row.values()) + " |")
    lines += ["", "Largest resident memory of one process, MB, after so many episodes:", ""]
    for task, row in figures["memory"].items():
        lines.append(f"- `{task}`: " + ", ".join(f"{count} after {int(done):,}" for done, count in row.items()))
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
