"""The study of composition: every cell meets the same scenes with every training seed. Resumable.

python bench/decoders/study.py train --data DATA --out RUN --only flow equilibrium   (the policies)
PYTHONPATH=bench/composition python bench/composition/study.py --policies RUN/train --part sensors --out OUT
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from cells import EXECUTE, FIRST_SCENE, MAX_STEPS, PARTS, SEEDS, TASKS, Cell

from volar.core.fingerprint import fingerprint
from volar.core.robot import Actor, Job
from volar.envs import make_env
from volar.evaluation.episodes import evaluate
from volar.evaluation.run import Arm, RunInfo

if TYPE_CHECKING:
    from volar.planning.composed import ComposedActor
    from volar.policies.vla import Policy

OWN = 4  # proprioceptive numbers of the robot itself; what follows comes from a sensor


@dataclass(frozen=True, kw_only=True)
class Study:
    """Run what is not there yet."""

    policies: Path
    out: Path
    part: str
    scenes: int = 40
    """per task; every training seed of every cell meets all of them"""
    first: int = FIRST_SCENE
    workers: int = 1
    together: int = 40
    only: tuple[str, ...] = ()
    """names of cells begin with one of these"""


def looking_by(policy: "Policy", view: str) -> "Policy":
    """The policy, which learned from true poses, told that a sensor shows them."""
    own, objects = policy.robot.proprioception[:OWN], policy.robot.proprioception[OWN:]
    policy.robot = replace(policy.robot, proprioception=(*own, *(f"{view}_{name}" for name in objects)))
    return policy


def compose(policies: Path, cell: Cell, seed: int) -> "ComposedActor":
    """Members of training seeds s and s + 1."""
    from volar.core.model import Budget
    from volar.planning.composed import ComposedActor
    from volar.policies.vla import Policy, latest_checkpoint

    members = [
        looking_by(Policy.load(latest_checkpoint(policies / f"{cell.decoder}-{number % len(SEEDS)}")), view)
        for number, view in enumerate(cell.views, start=seed)
    ]
    names = [f"{cell.decoder}-{view}" for view in cell.views]
    budget = Budget(evaluations=cell.budget)
    return ComposedActor(members, cell.composition, names=names, execute=EXECUTE, budget=budget)


@dataclass(frozen=True)
class Maker:
    """Makes the actor of the arm `cell@seed` in a worker."""

    policies: Path
    cells: Mapping[str, Cell]

    def __call__(self, arm: str) -> Actor:
        name, _, seed = arm.rpartition("@")
        return compose(self.policies, self.cells[name], int(seed))


def run(command: Study) -> None:
    cells = {name: cell for name, cell in PARTS[command.part]().items() if name.startswith(command.only or ("",))}
    tasks = tuple(dict.fromkeys(cell.task(name) for name in TASKS for cell in cells.values()))
    scenes = range(command.first, command.first + command.scenes)
    info = RunInfo(
        title=f"composition study, {command.part}", tasks=tasks, seeds=tuple(scenes),
        arms={f"{name}@{seed}": Arm(role="policy", description=str(asdict(cell)))
              for name, cell in cells.items() for seed in SEEDS},
        success_semantics="at any step", settings={"max_steps": MAX_STEPS, "executed_per_chunk": EXECUTE},
        fingerprint=fingerprint(),
    )  # fmt: skip
    jobs = [
        Job(task=cell.task(task), seed=scene, arm=f"{name}@{seed}", max_steps=MAX_STEPS)
        for seed in SEEDS for task in TASKS for name, cell in cells.items() for scene in scenes
    ]  # fmt: skip
    folder = command.out / "-".join((command.part, *command.only, str(command.first))).replace("/", "_")
    evaluate(
        folder, info, jobs, make_env=partial(make_env, cameras={}), make_actor=Maker(command.policies, cells),
        workers=command.workers, together=command.together,
    )  # fmt: skip


if __name__ == "__main__":
    run(tyro.cli(Study))
