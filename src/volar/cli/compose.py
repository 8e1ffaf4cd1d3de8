"""`volar compose A B --out DIR`: several checkpoints as one policy, with given weights or with searched ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro

from volar.cli.actors import share_frozen
from volar.cli.evaluate import first_looks, one_environment, square_cameras
from volar.cli.output import Output
from volar.core.errors import ConfigError
from volar.core.robot import Actor, Job, RobotSpec
from volar.envs import make_env
from volar.planning.composition import FILE, Composition, How, read_composition, union_robot, write_composition

if TYPE_CHECKING:
    from torch import Tensor

    from volar.policies.vla import Policy

SEARCH = "search"
TOGETHER = 8  # episodes that a process of the search runs in step


@dataclass(frozen=True, kw_only=True)
class Compose:
    """Write a folder that acts as one policy wherever a checkpoint does: evaluate, compare, plan, serve.

    Members may see different things: the environment must then show all of it, and each member sees its own part. With
    --tasks the weights are searched by running validation episodes, whose number and cost are kept.
    """

    members: tyro.conf.Positional[tuple[Path, ...]]
    """two or more checkpoints or training runs"""
    out: Path
    """folder of the composition; it names the checkpoints and does not copy them"""
    how: How = "convex"
    """convex: add fields; conjunction: add energies; mixture, product: of token distributions; vote, switch: among
    whole chunks"""
    weights: tuple[float, ...] = ()
    """one per member; equal ones by default"""
    weights_file: Path | None = None
    """JSON, for each member a list [h 1], [1 a] or [h a]: weights per step and dimension of the chunk"""
    draws: int = 1
    """chunks of every member in a vote"""
    tasks: tuple[str, ...] = ()
    """search the weights on these tasks"""
    execute: int = 1
    """actions carried out per chunk in the search"""
    episodes: int = 20
    """of the search, per task and point"""
    first_seed: int = 500
    """of the search; these scenes may not be evaluated on afterwards"""
    max_steps: int = 150
    """control steps until time-out in the search"""
    parts: int = 10
    """the search tries weights in steps of 1 / parts, and each member alone with the whole budget"""
    evaluations: int | None = None
    """budget per chunk in the search, all members together"""
    workers: int = 2
    """processes that run episodes"""


@dataclass(frozen=True)
class PointMaker:
    """Makes the actor of a point of the search, whose arm is its weights in JSON. In one process all points share the
    policies, since only one of them acts at a time."""

    members: tuple[Path, ...]
    composition: Composition
    execute: int
    evaluations: int | None
    _loaded: "list[Policy]" = field(default_factory=list, init=False, repr=False)

    def __call__(self, arm: str) -> Actor:
        from volar.core.model import UNLIMITED, Budget
        from volar.planning.composed import ComposedActor

        if not self._loaded:
            self._loaded.extend(_policies(self.members))
        composition = replace(self.composition, weights=json.loads(arm))
        budget = UNLIMITED if self.evaluations is None else Budget(evaluations=self.evaluations)
        names = [str(member) for member in self.members]
        return ComposedActor(self._loaded, composition, names=names, execute=self.execute, budget=budget)


def _policies(members: tuple[Path, ...]) -> "list[Policy]":
    from volar.policies.vla import Policy

    kept: dict[str, Tensor] = {}
    policies = [Policy.load(member) for member in members]
    for policy in policies:
        share_frozen(policy, kept)
    return policies


def compose(command: Compose) -> Path:
    """Check, search where asked to, and write. Raises ConfigError before anything runs."""
    from volar.planning.composable import require_composable
    from volar.policies.vla import latest_checkpoint

    if (command.out / FILE).exists():
        raise ConfigError(f"{command.out} is a composition already, which is never overwritten. Choose another folder.")
    members = tuple(latest_checkpoint(member) for member in command.members)
    composition = Composition(how=command.how, weights=_weights(command), draws=command.draws)
    policies = _policies(members)
    require_composable(policies, composition, [str(member) for member in members])
    if not command.tasks:
        write_composition(command.out, composition, members)
        return command.out
    if composition.weights is not None or command.how == "switch":
        raise ConfigError("--tasks searches the weights, so none can be given, and a switch has none.")
    robot = union_robot([policy.robot for policy in policies], [str(member) for member in members])
    found = _search(command, composition, members, robot)
    weights = found.pop("weights")
    write_composition(command.out, replace(composition, weights=weights), members, search=found)
    return command.out


def _weights(command: Compose) -> Any:
    if command.weights and command.weights_file is not None:
        raise ConfigError("Give --weights or --weights-file, not both.")
    if command.weights_file is None:
        return list(command.weights) or None
    try:
        return json.loads(command.weights_file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{command.weights_file} holds no weights: {error}.") from error


def _search(
    command: Compose, composition: Composition, members: tuple[Path, ...], robot: RobotSpec
) -> dict[str, Any]:  # fmt: skip
    """Run every point of the grid on the same validation scenes; begun before, it goes on. Gives the weights and what
    they cost."""
    from volar.core.fingerprint import fingerprint
    from volar.evaluation.episodes import evaluate
    from volar.evaluation.records import read
    from volar.evaluation.run import Arm, RunInfo
    from volar.planning.compose import search_weights, weight_grid

    one_environment(command.tasks)
    grid = (*weight_grid(len(members), parts=command.parts), *map(tuple, np.eye(len(members)).tolist()))
    seeds = tuple(range(command.first_seed, command.first_seed + command.episodes))
    looks = first_looks(command.tasks, robot, command.first_seed)
    settings = {"executed_per_chunk": command.execute, "max_steps": command.max_steps, "how": command.how,
                "evaluations": command.evaluations, "members": [str(member) for member in members]}  # fmt: skip
    info = RunInfo(
        title=f"Search of weights, {command.how}", tasks=command.tasks, seeds=seeds, settings=settings,
        arms={_arm(point): Arm(role="other", description="a point of the search") for point in grid},
        success_semantics=str(looks["environment"].get("success", "as the environment says")),
        fingerprint=fingerprint(**looks),
    )  # fmt: skip
    jobs = [
        Job(task=task, seed=seed, arm=_arm(point), max_steps=command.max_steps)
        for task in command.tasks for point in grid for seed in seeds
    ]  # fmt: skip
    evaluate(
        command.out / SEARCH, info, jobs, make_env=partial(make_env, cameras=square_cameras(robot)),
        make_actor=PointMaker(members, composition, command.execute, command.evaluations), workers=command.workers,
        together=TOGETHER,
    )  # fmt: skip
    episodes = [record.episode for record in read(command.out / SEARCH / "episodes.jsonl")]
    outcomes = {
        arm: np.array([bool(episode.success) for episode in episodes if episode.job.arm == arm]) for arm in info.arms
    }
    result = search_weights(lambda point: outcomes[_arm(point)], grid)
    return {
        "weights": list(result.weights), "tasks": list(command.tasks), "seeds": list(seeds), "grid": result.grid,
        "successes": result.successes, "episodes": result.episodes,
        "evaluations": sum(sum(episode.evaluations) for episode in episodes),
    }  # fmt: skip


def _arm(point: Sequence[float]) -> str:
    return json.dumps(list(point))


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Compose, prog="volar compose", args=arguments)
    stored = read_composition(compose(command))
    search: Mapping[str, Any] | None = stored.content["search"]
    text = f"{stored.description}\nComposition: {command.out}"
    if search is not None:
        points = "\n".join(
            f"  {', '.join(f'{weight:g}' for weight in point)}: {count} of {search['episodes'] // len(search['grid'])}"
            for point, count in zip(search["grid"], search["successes"], strict=True)
        )
        cost = f"The search cost {search['episodes']} episodes and {search['evaluations']} network evaluations."
        text = f"Successes by weights:\n{points}\n{cost}\n{text}"
    return Output({"composition": str(command.out), **stored.content}, text)
