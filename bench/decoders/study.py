"""The decoder study: train every variant with three seeds, run every cell on the same scenes. Resumable, two cores.

python bench/decoders/study.py train --data DATA --out RUN [--steps 1500] [--only flow equilibrium]
python bench/decoders/study.py run --out RUN --part sweep [--scenes 67]
"""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from variants import (
    EXECUTE,
    FIRST_SCENE,
    MAX_STEPS,
    PARTS,
    SEEDS,
    TASKS,
    VARIANTS,
    Cell,
    recipe,
    run_folder,
)

from volar.core.fingerprint import fingerprint
from volar.core.robot import Actor, Job
from volar.envs import make_env
from volar.evaluation.episodes import evaluate
from volar.evaluation.run import Arm, RunInfo

if TYPE_CHECKING:
    from volar.policies.vla import Policy


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train what is not there yet, two at a time."""

    data: Path
    out: Path
    steps: int = 1500
    only: tuple[str, ...] = tuple(VARIANTS)
    processes: int = 2


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run a part's cells, all on the same scenes."""

    out: Path
    part: str
    scenes: int = 36
    """per task; every training seed of every cell meets all of them"""
    first: int = FIRST_SCENE
    """the first scene, to add scenes to a part that was run"""
    data: Path | None = None
    """the demonstrations, for the exact field"""
    workers: int = 2
    only: tuple[str, ...] = ()
    """names of cells begin with one of these"""


def train_one(data: Path, out: Path, steps: int, variant: str, seed: int) -> str:
    import torch

    from volar.train.loop import train

    torch.set_num_threads(1)
    started = time.perf_counter()
    train(recipe(variant, seed, steps), data, run_folder(out, variant, seed), device="cpu", progress=False)
    return f"{variant}-{seed}: {time.perf_counter() - started:.0f} s"


def train_all(command: Train) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    jobs = [(variant, seed) for seed in SEEDS for variant in command.only]
    with ProcessPoolExecutor(command.processes, mp_context=get_context("spawn")) as pool:
        work = partial(train_one, command.data, command.out, command.steps)
        for done in pool.map(work, *zip(*jobs, strict=True)):
            print(done, flush=True)


@dataclass(frozen=True)
class Maker:
    """Makes the actor of the arm `cell@seed` in a worker."""

    out: Path
    cells: dict[str, Cell]
    data: Path | None = None

    def __call__(self, arm: str) -> Actor:
        from volar.core.model import UNLIMITED, Budget
        from volar.policies.actor import load_policy

        name, _, seed = arm.partition("@")
        cell = self.cells[name]
        budget = UNLIMITED if cell.evaluations is None else Budget(evaluations=cell.evaluations)
        actor = load_policy(run_folder(self.out, cell.variant, int(seed)), execute=EXECUTE, budget=budget)
        policy = self._exact(actor.policy) if cell.exact else actor.policy
        if cell.options:
            policy.decoder.config = replace(policy.decoder.config, **cell.options)  # may be changed after training
        return type(actor)(policy, execute=EXECUTE, budget=budget)

    def _exact(self, policy: "Policy") -> "Policy":
        """The control: the field that perfect training would give, of the demonstrations in similar situations."""
        import torch

        from volar.data.formats import open_dataset
        from volar.data.windows import Windows
        from volar.policies.exact import exact_control
        from volar.train.demonstrations import to_batch

        assert self.data is not None, "the exact field needs --data"
        dataset = open_dataset(self.data)
        every = tuple(range(len(dataset.episodes)))
        windows = Windows(
            dataset, horizon=policy.config.horizon, cameras=(), images=False, features=None, episodes=every
        )
        parts = (list(range(start, min(start + 512, len(windows)))) for start in range(0, len(windows), 512))
        batches = (to_batch(policy, windows.__getitems__(rows), torch.device("cpu")) for rows in parts)
        return exact_control(policy, batches, neighbours=48)


def run_part(command: Run) -> None:
    cells = PARTS[command.part]()
    if command.only:
        cells = {name: cell for name, cell in cells.items() if name.startswith(command.only)}
    scenes = range(command.first, command.first + command.scenes)
    members = {name: SEEDS[:1] if cell.exact else SEEDS for name, cell in cells.items()}
    info = RunInfo(
        title=f"decoder study, {command.part}", tasks=TASKS, seeds=tuple(scenes),
        arms={f"{name}@{seed}": Arm(role="policy", description=str(asdict(cell)))
              for name, cell in cells.items() for seed in members[name]},
        success_semantics="at any step", settings={"max_steps": MAX_STEPS, "executed_per_chunk": EXECUTE},
        fingerprint=fingerprint(),
    )  # fmt: skip
    jobs = [
        Job(task=task, seed=scene, arm=f"{name}@{seed}", max_steps=MAX_STEPS)
        for name in cells for task in TASKS for seed in members[name] for scene in scenes
    ]  # fmt: skip
    folder = command.out / "runs" / "-".join((command.part, *command.only, str(command.first))).replace("/", "_")
    folder.parent.mkdir(parents=True, exist_ok=True)
    evaluate(
        folder, info, jobs, make_env=partial(make_env, cameras={}), make_actor=Maker(command.out, cells, command.data),
        workers=command.workers, together=command.scenes,
    )  # fmt: skip


if __name__ == "__main__":
    chosen = tyro.cli(
        Annotated[Train, tyro.conf.subcommand("train")] | Annotated[Run, tyro.conf.subcommand("run")]  # type: ignore[arg-type]
    )
    train_all(chosen) if isinstance(chosen, Train) else run_part(chosen)
