"""Does a learned value help the search? Trains the heads, then searches once from the first state of every scene with
every arm, and writes down after how many simulations each first saw a success. Resumable; one process.

python bench/planning/value_study.py collect --policies RUN/train --out OUT
python bench/planning/value_study.py heads --policies RUN/train --out OUT
python bench/planning/value_study.py search --policies RUN/train --out OUT [--scenes 8]
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from cells import BASES, FIRST_SCENE, SEEDS

from volar.cli.data_branches import Branches, record_branches
from volar.cli.data_rollouts import Rollouts, record_rollouts
from volar.cli.planners import Proposals, proposer
from volar.core.fingerprint import fingerprint
from volar.core.model import Budget
from volar.core.robot import RestorableEnv
from volar.envs import make_env
from volar.planning.mcts import SearchConfig, Tree, search
from volar.planning.oracle import oracle_return
from volar.planning.planner import Limit, Root, Simulate, Spent
from volar.planning.simulation import SimulationConfig, Simulator, Value, state_key
from volar.planning.value_config import ValueConfig
from volar.planning.value_head import load_value
from volar.planning.value_training import train_value
from volar.policies.actor import PolicyActor, load_policy
from volar.policies.vla import latest_checkpoint

TASKS = {name: BASES[name].task for name in ("precise", "push", "pick-place")}
EXECUTE, EVALUATIONS, MAX_STEPS = 8, 2, 120
CANDIDATES = 5  # of a state: a budget below it cannot be guided, since all are opened before any is tried twice
SIMULATIONS = 32
SECONDS = 1.0  # of processor time, for the arms that are compared at equal time
ORACLE_DRAWS = 2
DRAWS = 3  # roll-outs of every recorded branch: the others tell how well the first could be foretold
FAST = ValueConfig(epochs=30, learning_rate=1e-3)  # as good here as the published 100 epochs at 1e-4, at a third
HEADS = {
    "mse": FAST,
    "random": replace(FAST, control="random"),
    "shuffled": replace(FAST, control="shuffled"),
    "time": replace(FAST, control="time"),
    "hl_gauss": replace(FAST, target="hl_gauss"),
}


@dataclass(frozen=True, kw_only=True)
class Searching:
    """One arm. head: "" for none. rollout: control steps behind an edge. timed: ends by time, not by simulations.
    proposals: further draws of the policy, or chunks around its own."""

    head: str = ""
    scale: Literal["raw", "min_max", "z_score"] = "z_score"
    rollout: int = MAX_STEPS
    oracle: bool = False
    timed: bool = False
    proposals: Proposals = "policy"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> SearchConfig:
        guided = bool(self.head) or self.oracle
        return SearchConfig(value_weight=float(guided), value_scale=self.scale, **self.options)


ARMS = {
    "search": Searching(),
    "mse z_score": Searching(head="mse"),
    "mse raw": Searching(head="mse", scale="raw"),
    "random z_score": Searching(head="random"),
    "shuffled z_score": Searching(head="shuffled"),
    "oracle z_score": Searching(oracle=True),
    "around: search": Searching(proposals="around"),
    "around: mse z_score": Searching(head="mse", proposals="around"),
    "around: oracle z_score": Searching(oracle=True, proposals="around"),
    "timed search": Searching(timed=True),
    "timed, value for roll-outs": Searching(head="mse", rollout=0, timed=True, options={"rollout_weight": 0.0}),
}


@dataclass(frozen=True, kw_only=True)
class Places:
    """policies: folder of trained policies. out: of everything that the study writes."""

    policies: Path
    out: Path

    def policy(self, seed: int) -> Path:
        return latest_checkpoint(self.policies / f"diffusion-{seed}")


@dataclass(frozen=True, kw_only=True)
class Collect(Places):
    """Roll-outs and branches of every policy, on scenes of their own."""

    rollouts: int = 80
    branches: int = 5


@dataclass(frozen=True, kw_only=True)
class Heads(Places):
    """Train every head for every policy."""


@dataclass(frozen=True, kw_only=True)
class Search(Places):
    """Run what has no record yet; scenes in the outer loop, so that it may be stopped at any time."""

    scenes: int = 8
    only: tuple[str, ...] = tuple(ARMS)


def collect(command: Collect) -> None:
    shared: dict[str, Any] = {
        "tasks": tuple(TASKS.values()),
        "execute": EXECUTE,
        "evaluations": EVALUATIONS,
        "max_steps": MAX_STEPS,
    }
    for seed in SEEDS:
        policy = command.policy(seed)
        rollouts = Rollouts(policy=policy, out=command.out / f"rollouts-{seed}", episodes=command.rollouts, workers=1,
                            **shared)  # fmt: skip
        print(seed, record_rollouts(rollouts, progress=False), flush=True)
        for proposals in ("policy", "around"):
            branches = Branches(policy=policy, out=command.out / f"branches-{proposals}-{seed}", every=3, candidates=6,
                                episodes=command.branches, draws=DRAWS, proposals=proposals, **shared)  # fmt: skip
            print(seed, proposals, record_branches(branches, progress=False), flush=True)


def train_heads(command: Heads) -> None:
    for seed in SEEDS:
        for name, config in HEADS.items():
            out = command.out / "heads" / f"{name}-{seed}"
            if not out.exists():
                chosen = replace(config, policy=command.policy(seed), seed=seed)
                facts = train_value(chosen, [command.out / f"rollouts-{seed}"], out, progress=False)
                print(name, seed, {key: facts[key] for key in ("examples", "ranking", "sibling_ranking", "error")})


def search_all(command: Search) -> None:
    path = command.out / "searches.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    done = {tuple(json.loads(line)[key] for key in ("task", "training", "scene", "arm")) for line in lines}
    actors = {seed: _actor(command.policy(seed)) for seed in SEEDS}
    envs = {name: make_env(task, cameras={}) for name, task in TASKS.items()}
    with path.open("a") as stream:
        for scene in range(FIRST_SCENE, FIRST_SCENE + command.scenes):
            for name, env in envs.items():
                for seed in SEEDS:
                    for arm in command.only:
                        if (name, seed, scene, arm) not in done:
                            facts = _once(command, env, actors[seed], seed, scene, ARMS[arm])
                            row = {"task": name, "training": seed, "scene": scene, "arm": arm, **facts}
                            stream.write(json.dumps(row) + "\n")
                            stream.flush()
            print("scene", scene, flush=True)
    (command.out / "fingerprint.json").write_text(json.dumps(fingerprint(), indent=1))


def _actor(policy: Path) -> PolicyActor:
    return load_policy(policy, execute=EXECUTE, budget=Budget(evaluations=EVALUATIONS))


def _once(command: Search, env: Any, actor: PolicyActor, seed: int, scene: int, arm: Searching) -> dict[str, Any]:
    """One search from the first state of a scene."""
    assert isinstance(env, RestorableEnv)
    value: Value | None = None
    if arm.head:
        value = load_value(command.out / "heads" / f"{arm.head}-{seed}", actor, policy=command.policy(seed))
    config = SimulationConfig(edge=EXECUTE, rollout=arm.rollout)
    propose = proposer(arm.proposals, env.spec.action, CANDIDATES, None)
    simulator = Simulator(env, actor, propose, config=config, value=value)
    env.reset(scene)
    seen, state = env.observe(), env.save()
    simulator.begin(seen.instruction)
    simulate: Simulate = oracle_return(simulator, draws=ORACLE_DRAWS) if arm.oracle else simulator
    started = time.process_time()
    candidates = simulator.candidates(state, seen, seed=scene)
    root = Root(state=state, key=state_key(state), candidates=candidates, left=MAX_STEPS, seed=scene)
    limit = Limit(simulations=SIMULATIONS)
    if arm.timed:
        limit = Limit(simulations=1_000_000, seconds=SECONDS, clock=time.process_time)
    tree = Tree.at(root)
    found = search(tree, simulate, config=arm.config, edge=EXECUTE, left=root.left, limit=limit, seed=root.seed)
    spent = time.process_time() - started
    return _facts(found.spent, solved=found.solution is not None, seconds=spent, tree=tree)


def _facts(spent: Spent, *, solved: bool, seconds: float, tree: Tree) -> dict[str, Any]:
    depth, level = 0, [tree.root]
    while level := [tree.nodes[edge.child] for node in level for edge in node.edges.values()]:
        depth += 1
    return {
        "solved": solved, "simulations": spent.simulations, "steps": spent.steps, "checks": spent.checks,
        "evaluations": spent.evaluations, "seconds": round(seconds, 3), "nodes": len(tree.nodes), "depth": depth,
    }  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    runs: dict[type, Callable[[Any], None]] = {Collect: collect, Heads: train_heads, Search: search_all}
    chosen = tyro.cli(
        Annotated[Collect, tyro.conf.subcommand("collect")]
        | Annotated[Heads, tyro.conf.subcommand("heads")]
        | Annotated[Search, tyro.conf.subcommand("search")]
    )  # fmt: skip
    runs[type(chosen)](chosen)
