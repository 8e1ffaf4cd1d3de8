"""Run what an evaluation still lacks, and keep every episode the moment it ends. Judges nothing: see summary.py."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from volar.core.robot import Actor, Env, Episode, Job
from volar.envs.rollout import groups, run_groups
from volar.evaluation.films import film_strip, marked
from volar.evaluation.records import RecordFile, key_of
from volar.evaluation.run import RunInfo, begin

# Roles whose episodes are worth a film.
LOOKING = (
    "policy", "shuffled_instruction", "blank_images", "oracle_thoughts", "shuffled_thoughts", "by_hand", "other",
)  # fmt: skip


def paired_jobs(
    info: RunInfo, *, max_steps: int | Mapping[str, int], other_instruction: Callable[[str, int], str]
) -> list[Job]:
    """Every arm meets the same (task, seed) pairs. max_steps: for all tasks or per task. other_instruction(task, seed):
    what the shuffled arm is told."""
    return [
        Job(
            task=task,
            seed=seed,
            arm=name,
            max_steps=max_steps[task] if isinstance(max_steps, Mapping) else max_steps,
            instruction=other_instruction(task, seed) if arm.role == "shuffled_instruction" else None,
            frames="looks" if arm.role in LOOKING else "none",
        )
        for task, (name, arm), seed in itertools.product(info.tasks, info.arms.items(), info.seeds)
    ]


def evaluate(
    folder: Path, info: RunInfo, jobs: Sequence[Job], *, make_env: Callable[[str], Env],
    make_actor: Callable[[str], Actor], workers: int, together: int = 1, ray: str | None = None,
    progress: bool = True,
) -> int:  # fmt: skip
    """Run the jobs that `folder` has no record of, and return how many that were.

    together: jobs that run in step (see `volar.envs.rollout`). What a group brings depends on all its members, so a
    group that was cut off runs again as a whole, and only what is missing is recorded. ray: address of a cluster.

    folder/: run.json, episodes.jsonl, films/*.jpg. Raises ConfigError when `folder` holds another evaluation.
    """
    begin(folder, info)
    with RecordFile(folder / "episodes.jsonl") as records:
        known = set(records.known)
        due = [group for group in groups(jobs, together) if any(key_of(job) not in known for job in group)]
        running = run_groups(due, make_env=make_env, make_actor=make_actor, workers=workers, ray=ray, progress=progress)
        for episode in running:
            if key_of(episode.job) not in known:
                records.append(episode, film=keep_film(folder, episode))
        return len(records.known) - len(known)


def keep_film(folder: Path, episode: Episode) -> str | None:
    """Write one strip of all cameras, one above the other, with the marks that the actor thought of. Returns its path
    in the folder; None where nobody looked."""
    if episode.trajectory is None or not episode.trajectory.images:
        return None
    pictures = marked(episode.trajectory.images, episode.thoughts)
    if len({picture.shape[2] for picture in pictures}) != 1:
        pictures = pictures[:1]
    job = episode.job
    path = film_path(job)
    (folder / "films").mkdir(exist_ok=True)
    (folder / path).write_bytes(film_strip(np.concatenate(pictures, axis=1)))
    return str(path)


def film_path(job: Job) -> Path:
    """Where the film of an episode lies in the folder of its run."""
    return Path("films") / f"{job.arm.replace('/', '+')}-{job.task.replace('/', '-')}-{job.seed}.jpg"
