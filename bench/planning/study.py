"""The planning study: every arm of a part meets the same scenes with every training seed. Resumable; one process.

python bench/planning/study.py --part budgets --policies RUN/train --out OUT [--scenes 6] [--first 20006] [--only push]
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import tyro
from cells import BASES, FIRST_SCENE, PARTS, SEEDS, Base, Cell

from volar.cli.planners import kept_decisions, note_decision, proposer
from volar.core.fingerprint import fingerprint
from volar.core.registry import build_config
from volar.core.robot import Actor, Job, RestorableEnv
from volar.envs import make_env
from volar.evaluation.episodes import evaluate
from volar.evaluation.run import Arm, RunInfo
from volar.planning import TABLE
from volar.planning.actor import PlanningActor
from volar.planning.mismatch import with_error
from volar.planning.planner import Limit
from volar.planning.simulation import SimulationConfig, Value

MakeValue = Callable[[str, int, Actor], Value | None]
"""(cell, training seed, policy) -> its learned value, None for a cell without one."""


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes the actor of the arm `cell@seed` in a worker process."""

    base: Base
    cells: Mapping[str, Cell]
    policies: Path
    folder: Path
    make_value: MakeValue | None = None

    def __call__(self, arm: str) -> Actor:
        import torch

        from volar.core.model import UNLIMITED, Budget
        from volar.policies.actor import load_policy

        torch.set_num_threads(1)
        name, _, seed = arm.partition("@")
        base, cell = self.base, self.cells[name]
        budget = UNLIMITED if base.evaluations is None else Budget(evaluations=base.evaluations)
        policy = load_policy(self.policies / base.checkpoint.format(seed=seed), execute=base.execute, budget=budget)
        if not cell.planner:
            return policy
        spec, cls = policy.policy.robot.action, TABLE.load(cell.planner)
        return PlanningActor(
            policy,
            cls(build_config(cls, cell.options), spec=spec),
            proposer(cell.proposals, spec, cell.candidates, None),
            config=SimulationConfig(edge=base.execute, rollout=cell.rollout, oracle=cell.oracle),
            limit=Limit(simulations=cell.simulations, seconds=cell.seconds),
            max_steps=base.max_steps,
            follow=cell.follow,
            value=None if self.make_value is None else self.make_value(name, int(seed), policy),
            make_simulator=None if cell.error is None else partial(self._simulator, cell),
            journal=partial(note_decision, self.folder, arm, base.task),
        )

    def _simulator(self, cell: Cell) -> RestorableEnv:
        env = make_env(self.base.task, cameras={})
        assert isinstance(env, RestorableEnv) and cell.error is not None
        return with_error(env, cell.error)


def run_cells(
    folder: Path, base: Base, cells: Mapping[str, Cell], *, policies: Path, scenes: range, title: str,
    make_value: MakeValue | None = None,
) -> int:  # fmt: skip
    """Run what `folder` has no record of: arms are named `cell@training seed`. Returns how many episodes that were."""
    arms = {f"{name}@{seed}": cell for name, cell in cells.items() for seed in SEEDS}
    info = RunInfo(
        title=title, tasks=(base.task,), seeds=tuple(scenes),
        arms={name: Arm(role="other" if cell.planner else "policy", description=str(asdict(cell)))
              for name, cell in arms.items()},
        success_semantics="at any step", settings=asdict(base), fingerprint=fingerprint(),
    )  # fmt: skip
    jobs = [Job(task=base.task, seed=scene, arm=arm, max_steps=base.max_steps) for arm in arms for scene in scenes]
    maker = Maker(base=base, cells=cells, policies=policies, folder=folder, make_value=make_value)
    count = evaluate(folder, info, jobs, make_env=partial(make_env, cameras={}), make_actor=maker, workers=0)
    kept_decisions(folder)
    return count


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run one part."""

    part: str
    policies: Path
    """folder of trained policies"""
    out: Path
    scenes: int = 6
    """per task; every training seed of every arm meets all of them"""
    first: int = FIRST_SCENE
    """the first scene, to add scenes to a part that was run"""
    only: tuple[str, ...] = tuple(BASES)
    """base policies"""
    arms: tuple[str, ...] = ()
    """only arms whose names begin with one of these, in a folder of their own"""


if __name__ == "__main__":
    command = tyro.cli(Run)
    for name in command.only:
        folder = command.out / command.part / "+".join((f"{name}-{command.first}", *command.arms))
        cells = {arm: cell for arm, cell in PARTS[command.part]().items() if arm.startswith(command.arms or "")}
        folder.parent.mkdir(parents=True, exist_ok=True)
        scenes = range(command.first, command.first + command.scenes)
        title = f"planning study, {command.part}, {name}"
        done = run_cells(folder, BASES[name], cells, policies=command.policies, scenes=scenes,
                         title=title)  # fmt: skip
        print(f"{folder}: {done} episodes run", flush=True)
