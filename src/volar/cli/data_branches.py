"""`volar data branches POLICY`: record what comes of every candidate at states that a policy meets.

For values that tell siblings apart; `volar data rollouts` records whole episodes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from volar.cli.output import Output
from volar.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Branches:
    """At states of EPISODES episodes of each task, carry out every candidate for EXECUTE steps and let the policy go on
    to success or time-out. Every branch becomes an episode of one frame; interrupted, it goes on."""

    policy: tyro.conf.Positional[Path]
    """a checkpoint or training run"""
    tasks: tuple[str, ...]
    """such as metaworld-state/faucet-open; their environment must be able to save and restore its state exactly"""
    out: Path
    """folder of the data set"""
    execute: int
    """actions of an edge; at most the policy's horizon"""
    evaluations: int | None = None
    """budget of a decoder that iterates, per chunk; by default its own"""
    candidates: int = 8
    """per state, the policy's own chunk among them"""
    proposals: Literal["around", "policy"] = "around"
    """candidates: around the policy's chunk, or further draws of the policy, where they differ"""
    draws: int = 1
    """how often the policy goes on from each branch, where it draws at random; their mean return is learned"""
    every: int = 3
    """branch at every so many decisions"""
    episodes: int = 30
    """per task"""
    first_seed: int = 600_000
    """episodes use the seeds from here upwards"""
    max_steps: int = 150
    """control steps until time-out"""


def record_branches(command: Branches, *, progress: bool = True) -> dict[str, int]:
    """Returns how many branches the data set now has, and how many of them ended in success. Raises ConfigError before
    anything is recorded."""
    from volar.cli.evaluate import first_looks, one_environment, read_policy, square_cameras
    from volar.cli.planners import proposer
    from volar.core.model import UNLIMITED, Budget
    from volar.core.progress import counting
    from volar.core.robot import RobotSpec
    from volar.data.writer import DatasetWriter
    from volar.envs import make_env
    from volar.planning.branches import Branch, branches_of
    from volar.planning.simulation import SimulationConfig, Simulator, require_exact_restore
    from volar.policies.actor import load_policy

    config = read_policy(command.policy)
    robot, environment = RobotSpec.from_json(config["robot"]), one_environment(command.tasks)
    if command.candidates < 2 or min(command.draws, command.every, command.episodes) < 1:
        raise ConfigError(
            f"Branches need candidates >= 2, and draws, every and episodes >= 1; got {command.candidates}, "
            f"{command.draws}, {command.every} and {command.episodes}."
        )
    budget = UNLIMITED if command.evaluations is None else Budget(evaluations=command.evaluations)
    actor = load_policy(config["folder"], execute=command.execute, budget=budget)
    facts = first_looks(command.tasks, robot, command.first_seed)["environment"]
    propose = proposer(command.proposals, robot.action, command.candidates, None)
    simulation = SimulationConfig(edge=command.execute, rollout=command.max_steps)

    def branches(task: str, seed: int) -> Iterator[Branch]:
        env = make_env(task, cameras=square_cameras(robot))
        try:
            env.reset(seed)
            world = require_exact_restore(env)
            simulator = Simulator(world, actor, propose, config=simulation)
            for found in branches_of(
                simulator, seed=seed, max_steps=command.max_steps, every=command.every, draws=command.draws
            ):
                yield from found
        finally:
            env.close()

    writer = DatasetWriter(
        command.out, spec=robot, fps=robot.action.rate_hz,
        camera_storage={camera.name: "image" for camera in robot.cameras}, robot_type=environment,
        extra={"environment": facts, "policy": config["hash"], "max_steps": command.max_steps}, resume=True,
    )  # fmt: skip
    scenes = [(task, command.first_seed + number) for task in command.tasks for number in range(command.episodes)]
    with writer, counting("branches", len(scenes), shown=progress) as advance:
        known = {(each["task"], each["seed"], each["step"], each["candidate"]) for each in writer.saved}
        begun = [(each["task"], each["seed"]) for each in writer.saved]
        finished = set(begun) - set(begun[-1:])
        for task, seed in scenes:
            for branch in () if (task, seed) in finished else branches(task, seed):
                if (task, seed, branch.step, branch.candidate) not in known:
                    source = {"task": task, "seed": seed, **branch.facts()}
                    writer.add(branch.trajectory(), branch.observation.instruction, source=source)
            advance(1)
    return {"branches": len(writer.saved), "successes": sum(source["success"] for source in writer.saved)}


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Branches, prog="volar data branches", args=arguments)
    counts = record_branches(command)
    text = f"{counts['successes']} of {counts['branches']} branches ended in success.\nData set: {command.out}"
    return Output({"data": str(command.out), **counts}, text)
