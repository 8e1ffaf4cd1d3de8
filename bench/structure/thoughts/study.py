"""The study of embodied chain-of-thought, seed by seed: train what is not there yet, run all arms on the same scenes.

python bench/structure/thoughts/study.py --data LABELLED --out RUN     resumable; one process
The demonstrations: `volar collect` with 150 episodes of each trained pair and --noise 0.1, then `volar data label`
with --words subtask move --objects simulator --calibration simulator --directions robot.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
import tyro
from variants import (
    ARMS,
    EXECUTE,
    FIRST_SCENE,
    LATE,
    MAX_STEPS,
    PAIRS,
    SCENES,
    SEEDS,
    STEERED,
    TRAINED,
    TRAININGS,
    Arm,
    following,
    recipe,
    run_folder,
    sentence,
    task,
)

from volar.core.fingerprint import fingerprint
from volar.core.model import UNLIMITED
from volar.core.robot import Actor, BatchActor, Chunk, Job, Observation
from volar.core.thoughts import Thought
from volar.envs import make_env
from volar.evaluation.episodes import evaluate
from volar.evaluation.records import done
from volar.evaluation.run import Arm as RunArm
from volar.evaluation.run import RunInfo
from volar.policies.actor import PolicyActor
from volar.policies.asynchronous import Asynchronous
from volar.policies.vla import Policy, latest_checkpoint
from volar.reasoning.ecot import ECoT
from volar.train.loop import train


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything there is to run."""

    data: Path
    out: Path
    only: tuple[str, ...] = ()
    """arms; by default all"""


class Edited(BatchActor):
    """A policy to which a person says that the cube after the one in the instruction is meant."""

    privileged = ("words that a person gave",)

    def __init__(self, actor: PolicyActor) -> None:
        self.actor, self.uses_images = actor, actor.uses_images

    def reset(self, seed: int) -> None:
        self.actor.reset(seed)
        self.events: dict[int, int] = {}

    def act_many(self, rows: Sequence[int], observations: Sequence[Observation]) -> list[Chunk]:
        given = [edit(seen.instruction, self.events.get(row, 0)) for row, seen in zip(rows, observations, strict=True)]
        chunks = self.actor.act_given(rows, observations, given)
        for row in rows:
            self.events[row] = self.events.get(row, 0) + self.actor.recalls[row].event
        return chunks


def edit(instruction: str, events: int) -> Thought:
    """events: how often the gripper has closed or opened; while it has closed, something is being brought."""
    words = instruction.split()
    cube, region = following(words[2]), words[-2]
    text = f"bring the {cube} cube to the {region} region" if events % 2 else f"grasp the {cube} cube"
    return Thought(words={"subtask": text})


class Slow(Executor):
    """Every thought but the first is there so many ticks after it was begun."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.forget()

    def forget(self) -> None:
        self.due: list[tuple[int, Future, object]] = []
        self.now, self.first = 0, True

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future:
        future: Future = Future()
        self.due.append((self.now + (0 if self.first else self.looks), future, fn(*args, **kwargs)))
        self.first = False
        self.tell()
        return future

    def tick(self) -> None:
        self.now += 1
        self.tell()

    def tell(self) -> None:
        for _, future, result in [each for each in self.due if each[0] <= self.now]:
            future.set_result(result)
        self.due = [each for each in self.due if each[0] > self.now]


class Late(Actor):
    """A policy whose thoughts are late."""

    def __init__(self, actor: PolicyActor, looks: int) -> None:
        self.executor = Slow(looks)
        self.actor, self.uses_images = Asynchronous(actor, self.executor), actor.uses_images

    def reset(self, seed: int) -> None:
        self.executor.forget()
        self.actor.reset(seed)

    def act(self, observation: Observation) -> Chunk:
        chunk = self.actor.act(observation)
        self.executor.tick()
        return chunk


def make_actor(out: Path, arms: dict[str, Arm], name: str) -> Actor:
    label, _, seed = name.partition("@")
    arm = arms[label]
    policy = Policy.load(latest_checkpoint(run_folder(out, arm.training, int(seed))))
    if arm.options:
        changed = {**policy.config.reasoner_options, **arm.options}
        again = ECoT(ECoT.Config(**changed), width=policy.backbone.width, cameras=())  # type: ignore[arg-type]
        assert policy.reasoner is not None
        again.restore(policy.reasoner.state())
        again.load_state_dict(policy.reasoner.state_dict())
        policy.reasoner = again
    actor = PolicyActor(policy, execute=EXECUTE, budget=UNLIMITED)
    if arm.late:
        return Late(actor, arm.late)
    return Edited(actor) if arm.edited else actor


def run(folder: Path, out: Path, arms: dict[str, Arm], jobs: Sequence[Job], title: str) -> None:
    if len(done(folder / "episodes.jsonl")) == len(jobs):
        return
    names = dict.fromkeys(job.arm for job in jobs)
    info = RunInfo(
        title=title,
        tasks=tuple(dict.fromkeys(job.task for job in jobs)), seeds=tuple(sorted({job.seed for job in jobs})),
        arms={name: RunArm(role="policy", description=str(asdict(arms[name.partition("@")[0]]))) for name in names},
        success_semantics="at any step", settings={"max_steps": MAX_STEPS, "executed_per_chunk": EXECUTE},
        fingerprint=fingerprint(),
    )  # fmt: skip
    evaluate(
        folder, info, jobs, make_env=partial(make_env, cameras={}), make_actor=partial(make_actor, out, arms),
        workers=0, together=24, progress=False,
    )  # fmt: skip


def plain_jobs(arm: str) -> list[Job]:
    return [
        Job(task=task(pair), seed=FIRST_SCENE + scene, arm=arm, max_steps=MAX_STEPS)
        for kind, pairs in PAIRS.items() for pair in pairs for scene in range(SCENES[kind])
    ]  # fmt: skip


def steering_jobs(arm: str) -> list[Job]:
    """The world judges the cube of the edit; the instruction names the one before it."""
    before = {following(cube): cube for cube, _ in TRAINED}
    return [
        replace(job, instruction=sentence((before[cube], region)))
        for cube, region in TRAINED for scene in range(SCENES["trained"])
        for job in [Job(task=task((cube, region)), seed=FIRST_SCENE + scene, arm=arm, max_steps=MAX_STEPS)]
    ]  # fmt: skip


def late_jobs(arm: str) -> list[Job]:
    return [job for job in plain_jobs(arm) if job.task in {task(pair) for pair in TRAINED}]


def main(study: Study) -> None:
    torch.set_num_threads(1)
    for seed in SEEDS:
        for name in TRAININGS:
            if not (run_folder(study.out, name, seed) / "checkpoints").exists():
                started = time.process_time()
                train(recipe(name, seed, study.out), study.data, run_folder(study.out, name, seed), device="cpu",
                      progress=False)  # fmt: skip
                print(f"{name}-{seed}: {time.process_time() - started:.0f} s of processor time", flush=True)
        parts = (("plain", ARMS, plain_jobs), ("steering", STEERED, steering_jobs), ("late", LATE, late_jobs))
        for part, arms, jobs in parts:
            for name in arms:
                if not study.only or name in study.only:
                    folder = study.out / "runs" / f"{part}-{name.replace(', ', '-').replace(' ', '-')}-{seed}"
                    folder.parent.mkdir(parents=True, exist_ok=True)
                    run(folder, study.out, arms, jobs(f"{name}@{seed}"), f"chain of thought, {part}")
                    print(f"{part}: {name}@{seed}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Study))
