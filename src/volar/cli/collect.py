"""`volar collect`: a scripted expert demonstrates; successful episodes become a LeRobot v3.0 data set."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro

from volar.cli.output import Output
from volar.core.calibration import CalibratedWorld
from volar.core.errors import ConfigError
from volar.core.robot import Actor, Env, Job
from volar.envs import TABLE, make_env
from volar.envs.task_names import parse_task


@dataclass(frozen=True, kw_only=True)
class Collect:
    """Write EPISODES successful demonstrations of each task; an interrupted collection goes on where it stopped."""

    tasks: tyro.conf.Positional[tuple[str, ...]]
    """such as metaworld/faucet-open; `volar list tasks` names them"""
    out: Path
    """folder of the data set"""
    episodes: int = 25
    """successful episodes per task"""
    camera: dict[str, int] | None = None
    """camera names and side in pixels, such as corner4 112; by default what the environment declares"""
    storage: Literal["video", "jpeg", "image"] = "video"
    """x264 video (smallest, half the colour resolution), or for every frame a JPEG (quality 95) or a PNG (lossless)"""
    noise: float = 0.1
    """standard deviation of execution noise, in action units; the recorded action stays the clean one"""
    max_steps: int = 200
    """control steps until a demonstration counts as failed and the next seed is tried"""
    first_seed: int = 0
    """demonstrations use the seeds from here upwards"""
    workers: int = 2
    """simulator processes"""


def make_expert(environment: str, arm: str) -> Actor:
    """The scripted expert of an environment; runs in the worker processes."""
    return TABLE.load(environment).expert()


def collect(command: Collect, *, progress: bool = True) -> dict[str, int]:
    """Returns task -> episodes now in the data set. Raises ConfigError before anything is recorded."""
    from volar.data.writer import DatasetWriter
    from volar.envs.rollout import rollout

    environments = {parse_task(task).environment for task in command.tasks}
    if len(environments) != 1:
        raise ConfigError(f"One data set holds the tasks of one environment, got {sorted(environments) or 'no task'}.")
    if command.episodes < 1:
        raise ConfigError(f"episodes must be at least 1, got {command.episodes}.")
    environment = environments.pop()
    build = partial(make_env, cameras=command.camera)
    for task in command.tasks[1:]:
        build(task).close()
    env = build(command.tasks[0])
    spec, facts, known = env.spec, env.describe(), _calibrations(env, command.tasks)
    env.close()
    writer = DatasetWriter(
        command.out,
        spec=spec,
        fps=spec.action.rate_hz,
        camera_storage={camera.name: command.storage for camera in spec.cameras},
        robot_type=environment,
        extra={"environment": facts, "noise": command.noise, "max_steps": command.max_steps, **known},
        resume=True,
    )
    tried = dict.fromkeys(command.tasks, command.first_seed)  # task -> next seed to try
    for source in writer.saved:
        tried[source["task"]] = max(tried.get(source["task"], 0), source["seed"] + 1)
    with writer:
        while jobs := list(_missing(command, writer.saved, tried)):
            episodes = rollout(
                jobs, make_env=build, make_actor=partial(make_expert, environment),
                workers=command.workers, progress=progress, ordered=True,
            )  # fmt: skip
            for episode in episodes:
                if episode.success:
                    assert episode.trajectory is not None
                    source = {"task": episode.job.task, "seed": episode.job.seed, "success": True}
                    writer.add(episode.trajectory, episode.instruction, source=source)
    return _counts(command, writer.saved)


def _calibrations(env: Env, tasks: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    """What is noted of the cameras, where they are known and stand still throughout the data set."""
    world = env.unwrapped
    if not isinstance(world, CalibratedWorld) or any(parse_task(task).levels for task in tasks):
        return {}
    return {"calibrations": [calibration.to_json() for calibration in world.calibrations().values()]}


def _counts(command: Collect, saved: list[dict]) -> dict[str, int]:
    return {task: sum(source["task"] == task for source in saved) for task in command.tasks}


def _missing(command: Collect, saved: list[dict], tried: dict[str, int]) -> Iterator[Job]:
    """The next seeds of every task that still lacks episodes. A seed at which the expert failed is not tried again."""
    for task, count in _counts(command, saved).items():
        lacking = command.episodes - count
        attempts = tried[task] - command.first_seed
        if lacking > 0 and attempts > 5 * command.episodes + 20:
            raise ConfigError(
                f"The expert fails too often at {task}: {count} of {attempts} attempts succeeded. "
                f"Allow more steps (--max-steps, now {command.max_steps}) or less noise (--noise, now {command.noise})."
            )
        for seed in range(tried[task], tried[task] + max(lacking, 0)):
            yield Job(
                task=task, seed=seed, arm="expert", max_steps=command.max_steps, noise=command.noise, frames="all"
            )
        tried[task] += max(lacking, 0)


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Collect, prog="volar collect", args=arguments)
    counts = collect(command)
    text = "\n".join(f"{count:>5} episodes  {task}" for task, count in counts.items()) + f"\nData set: {command.out}"
    return Output({"data": str(command.out), "episodes": counts}, text)
