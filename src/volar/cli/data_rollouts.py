"""`volar data rollouts POLICY`: record what a policy does as a data set, successes and failures alike.

For scores that learn from outcomes; demonstrations come from `volar collect`.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from volar.cli.output import Output
from volar.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Run EPISODES episodes of each task and record every one that did not break; interrupted, it goes on."""

    policy: tyro.conf.Positional[Path]
    """a checkpoint or training run"""
    tasks: tuple[str, ...]
    """such as metaworld/faucet-open"""
    out: Path
    """folder of the data set"""
    execute: int
    """actions carried out per chunk; at most the policy's horizon"""
    evaluations: int | None = None
    """budget of a decoder that iterates, per chunk; by default its own"""
    episodes: int = 50
    """per task"""
    first_seed: int = 500_000
    """episodes use the seeds from here upwards; apart from demonstrations and from those that judge the policy"""
    max_steps: int = 150
    """control steps until time-out"""
    workers: int = 2
    """simulator processes"""


def record_rollouts(command: Rollouts, *, progress: bool = True) -> dict[str, int]:
    """Returns how many episodes the data set now has, and how many of them succeeded. Raises ConfigError before
    anything is recorded."""
    from volar.cli.actors import Acting, ActorMaker
    from volar.cli.evaluate import first_looks, one_environment, read_policy, square_cameras
    from volar.core.robot import Job, RobotSpec
    from volar.data.writer import DatasetWriter
    from volar.envs import make_env
    from volar.envs.rollout import rollout

    config = read_policy(command.policy)
    robot, environment = RobotSpec.from_json(config["robot"]), one_environment(command.tasks)
    if not 1 <= command.execute <= config["policy"]["horizon"]:
        raise ConfigError(f"execute must be 1 to {config['policy']['horizon']}, the horizon; got {command.execute}.")
    facts = first_looks(command.tasks, robot, command.first_seed)["environment"]
    acting = Acting(
        role="policy", policy=str(config["folder"]), execute=command.execute, evaluations=command.evaluations
    )
    writer = DatasetWriter(
        command.out, spec=robot, fps=robot.action.rate_hz,
        camera_storage={camera.name: "video" for camera in robot.cameras}, robot_type=environment,
        extra={"environment": facts, "policy": config["hash"], "max_steps": command.max_steps}, resume=True,
    )  # fmt: skip
    with writer:
        known = {(source["task"], source["seed"]) for source in writer.saved}
        jobs = [
            Job(task=task, seed=seed, arm="policy", max_steps=command.max_steps, frames="all")
            for task in command.tasks for seed in range(command.first_seed, command.first_seed + command.episodes)
            if (task, seed) not in known
        ]  # fmt: skip
        episodes = rollout(
            jobs, make_env=partial(make_env, cameras=square_cameras(robot)),
            make_actor=ActorMaker({"policy": acting}, robot, environment), workers=command.workers, progress=progress,
            ordered=True,
        )  # fmt: skip
        for episode in episodes:
            if episode.success is not None:
                assert episode.trajectory is not None
                source = {"task": episode.job.task, "seed": episode.job.seed, "success": episode.success,
                          "execute": command.execute}  # fmt: skip
                writer.add(episode.trajectory, episode.instruction, source=source)
    return {"episodes": len(writer.saved), "successes": sum(source["success"] for source in writer.saved)}


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Rollouts, prog="volar data rollouts", args=arguments)
    counts = record_rollouts(command)
    text = f"{counts['successes']} of {counts['episodes']} episodes succeeded.\nData set: {command.out}"
    return Output({"data": str(command.out), **counts}, text)
