"""What a search costs: CPU time of simulator, policy and the search itself, worker processes, memory per node.

python bench/planning/speed.py --policies POLICIES --out FILE [--only push]
"""

import json
import os
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from cells import BASES, FIRST_SCENE, Base

from volar.core.fingerprint import fingerprint
from volar.core.model import UNLIMITED, Budget
from volar.core.progress import counting
from volar.core.robot import BatchActor, Chunk, Observation, RestorableEnv
from volar.envs import make_env
from volar.planning.mcts import SearchConfig, Tree, search
from volar.planning.planner import Limit, Root
from volar.planning.proposals import from_policy
from volar.planning.simulation import SimulationConfig, Simulator, state_key
from volar.planning.workers import SimulatorPool
from volar.policies.actor import load_policy

SIMULATIONS = 40  # per search, none ended by a success
SEARCHES = 4


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Searches from the first states of some scenes."""

    policies: Path
    """folder of trained policies; training seed 0 is used"""
    out: Path
    """json file of the figures"""
    only: tuple[str, ...] = ("push", "soccer")
    """base policies"""


class Stopwatch:
    """CPU seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            started = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[part] += time.process_time() - started

        return call


class TimedActor(BatchActor):
    def __init__(self, actor: BatchActor, watch: Stopwatch) -> None:
        self._actor, self.uses_images = actor, actor.uses_images
        self._act = watch.timed("policy", actor.act_many)

    def reset(self, seed: int) -> None:
        self._actor.reset(seed)

    def act_many(self, rows: Sequence[int], observations: Sequence[Observation]) -> list[Chunk]:
        return self._act(rows, observations)


def parts_of(base: Base, policies: Path) -> tuple[RestorableEnv, BatchActor]:
    budget = UNLIMITED if base.evaluations is None else Budget(evaluations=base.evaluations)
    env = make_env(base.task, cameras={})
    assert isinstance(env, RestorableEnv)
    return env, load_policy(policies / base.checkpoint.format(seed=0), execute=base.execute, budget=budget)


def simulator_of(base: Base, policies: Path) -> Simulator:
    """In a worker process of the pool."""
    import torch

    torch.set_num_threads(1)
    env, actor = parts_of(base, policies)
    return Simulator(env, actor, partial(from_policy, num=10), config=config_of(base))


def config_of(base: Base) -> SimulationConfig:
    return SimulationConfig(edge=base.execute, rollout=base.max_steps)


def root_of(base: Base, simulator: Simulator, scene: int) -> Root:
    simulator.env.reset(scene)
    observation, state = simulator.env.observe(images=False), simulator.env.save()
    simulator.begin(observation.instruction)
    candidates = simulator.candidates(state, observation)
    return Root(state=state, key=state_key(state), candidates=candidates, left=base.max_steps)


def grow(tree: Tree, simulate: Callable[..., Any], base: Base, parallel: int) -> None:
    config = SearchConfig(parallel=parallel, stop_at_success=False)
    limit = Limit(simulations=SIMULATIONS)
    search(tree, simulate, config=config, edge=base.execute, left=base.max_steps, limit=limit, seed=0)


def shares(base: Base, policies: Path, parallel: int) -> dict[str, float]:
    """CPU milliseconds per simulation, root included, and whose they are."""
    watch = Stopwatch()
    env, actor = parts_of(base, policies)
    for name in ("step", "restore", "save", "observe"):
        setattr(env, name, watch.timed("step" if name == "step" else "restore, save, observe", getattr(env, name)))
    simulator = Simulator(env, TimedActor(actor, watch), partial(from_policy, num=10), config=config_of(base))
    started = time.process_time()
    for scene in range(FIRST_SCENE, FIRST_SCENE + SEARCHES):
        grow(Tree.at(root_of(base, simulator, scene)), simulator, base, parallel)
    each = 1000 / SEARCHES / SIMULATIONS
    total = each * (time.process_time() - started)
    known = {name: each * seconds for name, seconds in watch.seconds.items()}
    rest = total - sum(known.values())
    return {"total": total, **known, "search": rest, "share_of_search": rest / total}


def pooled(base: Base, policies: Path) -> dict[str, float]:
    """Simulations per second of wall time, leaves in worker processes; the load of the machine decides with them."""
    here, rates = simulator_of(base, policies), {}
    roots = [root_of(base, here, scene) for scene in range(FIRST_SCENE, FIRST_SCENE + SEARCHES)]
    words = here.env.observe(images=False).instruction
    for size in (1, 2):
        with SimulatorPool(partial(simulator_of, base, policies), size) as pool:
            simulate = partial(pool, instruction=words)
            grow(Tree.at(roots[0]), simulate, base, 2 * size)  # starts the processes
            started = time.perf_counter()
            for root in roots:
                grow(Tree.at(root), simulate, base, 2 * size)
            rates[str(size)] = SEARCHES * SIMULATIONS / (time.perf_counter() - started)
    return rates


def bytes_per_node(base: Base, policies: Path) -> float:
    simulator = simulator_of(base, policies)
    root = root_of(base, simulator, FIRST_SCENE)
    grow(Tree.at(root), simulator, base, 1)  # fills what is kept between searches
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tree = Tree.at(root)
    grow(tree, simulator, base, 1)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return grown / (len(tree.nodes) - 1)


def main(command: Speed) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    figures: dict[str, Any] = {}
    with counting("base policies", len(command.only), shown=True) as advance:
        for name in command.only:
            base = BASES[name]
            figures[name] = {
                "milliseconds_per_simulation": {str(at): shares(base, command.policies, at) for at in (1, 5, 10)},
                "simulations_per_second_by_workers": pooled(base, command.policies),
                "bytes_per_node": bytes_per_node(base, command.policies),
                "load": os.getloadavg()[0],
            }
            advance(1)
    text = json.dumps({"bases": figures, "fingerprint": fingerprint()}, indent=1)
    print(text)
    command.out.write_text(text + "\n")


if __name__ == "__main__":
    main(tyro.cli(Speed))
