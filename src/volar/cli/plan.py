"""`volar plan`: paired episodes of a policy alone and under planners that try its chunks in the simulator first."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro

from volar.cli.actors import Acting, ActorMaker
from volar.cli.evaluate import describe_policy, first_looks, read_policy, square_cameras
from volar.cli.output import Output
from volar.cli.planners import (
    Chosen,
    PlannerMaker,
    Proposals,
    kept_decisions,
    library_from,
    planner_options,
    value_from,
)
from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import RobotSpec
from volar.envs import make_env
from volar.evaluation.episodes import evaluate, paired_jobs
from volar.evaluation.run import Arm, RunInfo
from volar.planning import TABLE
from volar.planning.mismatch import DynamicsError
from volar.planning.planner import Limit
from volar.planning.simulation import SimulationConfig

POLICY = "policy"


@dataclass(frozen=True, kw_only=True)
class PlanCommand:
    """Run EPISODES paired episodes of a checkpoint alone and under every planner and budget; continues where it
    stopped. Planners see the simulator's state and success: what they used is counted and recorded."""

    policy: tyro.conf.Positional[Path]
    """checkpoint or training run"""
    task: str
    """such as metaworld/faucet-open; its environment must be able to save and restore its state exactly"""
    out: Path
    """folder of the records"""
    execute: int
    """actions per decision: the edge of every planner, and what the policy alone carries out per chunk"""
    planners: tuple[str, ...] = ("tree_search", "best_of_n")
    """members of `volar list planners`"""
    simulations: tuple[int, ...] = (30,)
    """per decision; each number is an arm of every planner"""
    seconds: float | None = None
    """per decision; overshot by one edge at most"""
    set: tuple[str, ...] = ()
    """options of planners, such as tree_search.exploration=2.0 best_of_n.candidates=true"""
    proposals: Proposals = "around"
    """candidates of the tree search: around the policy's chunk, further draws of the policy, or from a chunk library"""
    candidates: int = 10
    """how many of them per state"""
    library: Path | None = None
    """of --proposals library: a data set of successful episodes, or a file that ChunkLibrary.save wrote"""
    library_size: int = 2000
    """chunks of a library that is made from a data set"""
    value: Path | None = None
    """a learned value that the search weighs by --set tree_search.value_weight=1 (tree_search.value_scale=z_score)"""
    value_spread: float = 0.0
    """standard deviations of the value's members that are added to their mean (UCB)"""
    rollout: int = 300
    """control steps that the policy runs on behind an edge; never beyond the time-out"""
    discount: float = 0.99
    """per control step"""
    follow: Literal["replan", "open_loop"] = "replan"
    """a found solution: carry out its first edge and plan again, or all of it blindly"""
    gain: float = 1.0
    """of actions in the planners' simulator; with this or the next three they plan with wrong dynamics"""
    mass: float = 1.0
    """factor of all masses in the planners' simulator"""
    friction: float = 1.0
    """factor of all sliding friction in the planners' simulator"""
    delay: float = 0.0
    """control steps by which actions come late in the planners' simulator, 0 to 1"""
    episodes: int = 20
    """per arm"""
    first_seed: int = 1000
    """episodes use the seeds from here upwards"""
    max_steps: int = 150
    """control steps until time-out"""
    draw: int | None = 0
    """decision of the first episode whose search tree is drawn"""
    title: str = "Planning"
    """heading of the report"""
    workers: int = 2
    """processes that run episodes"""


def arms_of(command: PlanCommand) -> dict[str, Chosen]:
    """Every planner at every budget, by the name of its arm. Raises ConfigError."""
    if not command.planners or not command.simulations:
        raise ConfigError("Name at least one planner and one number of simulations.")
    for setting in command.set:
        if setting.partition(".")[0] not in command.planners:
            raise unknown_name("planner in this run", setting.partition(".")[0], command.planners)
    arms = {}
    for name in command.planners:
        cls = TABLE.load(name)
        options = planner_options(cls, name, command.set)
        for simulations in command.simulations:
            limit = Limit(simulations=simulations, seconds=command.seconds)
            arms[f"{name.rpartition(':')[2]}-{simulations}"] = Chosen(planner=name, options=options, limit=limit)
    return arms


def prepare(command: PlanCommand) -> tuple[RunInfo, PlannerMaker]:
    """Check everything that can be wrong before the first episode. Raises ConfigError."""
    from volar.core.fingerprint import fingerprint

    arms, config = arms_of(command), read_policy(command.policy)
    horizon, robot = config["policy"]["horizon"], RobotSpec.from_json(config["robot"])
    if not 1 <= command.execute <= horizon:
        raise ConfigError(f"execute must be 1 to {horizon}, the policy's horizon; got {command.execute}.")
    error = DynamicsError(gain=command.gain, mass=command.mass, friction=command.friction, delay=command.delay)
    simulation = SimulationConfig(edge=command.execute, rollout=command.rollout, discount=command.discount)
    library = library_from(command.library, command.proposals, horizon=horizon, size=command.library_size)
    value = value_from(command.value, command.value_spread, policy=config["folder"], arms=arms)
    looks = first_looks((command.task,), robot, command.first_seed)
    described = {POLICY: Arm(role="policy", description=describe_policy(config))}
    for name, chosen in arms.items():
        words = f"The policy under {chosen.planner} with {chosen.limit.simulations} simulations per decision"
        described[name] = Arm(role="other", description=f"{words}, in a simulator with {error}.")
    settings = {
        "max_steps": command.max_steps, "executed_per_chunk": command.execute, "policies": {POLICY: config["hash"]},
        "kind": {POLICY: config["card"]["kind"]}, "simulation": asdict(simulation), "follow": command.follow,
        "dynamics_error": asdict(error),
        "seconds": command.seconds, "planner_options": {name: chosen.options for name, chosen in arms.items()},
        "proposals": command.proposals, "candidates": command.candidates, "control_rate_hz": robot.action.rate_hz,
        "library_chunks": None if library is None else len(library.chunks),
        "value": None if value is None else value.hash, "value_spread": command.value_spread,
    }  # fmt: skip
    info = RunInfo(
        title=command.title,
        tasks=(command.task,),
        seeds=tuple(range(command.first_seed, command.first_seed + command.episodes)),
        arms=described,
        success_semantics=str(looks["environment"].get("success", "as the environment says")),
        settings=settings,
        fingerprint=fingerprint(**looks),
    )
    acting = Acting(role="policy", policy=str(config["folder"]), execute=command.execute)
    maker = PlannerMaker(
        policies=ActorMaker({POLICY: acting}, robot, command.task.partition("/")[0]),
        arms=arms, simulation=simulation, task=command.task, cameras=square_cameras(robot), folder=command.out,
        max_steps=command.max_steps, follow=command.follow, proposals=command.proposals, num=command.candidates,
        library=library, drawn=None if command.draw is None else (command.first_seed, command.draw), error=error,
        value=value,
    )  # fmt: skip
    maker.simulator().close()
    return info, maker


def summary_of(decisions: list[dict[str, Any]]) -> dict[str, dict[str, int | float]]:
    """What the decisions of every arm cost in the mean, and how many fell back on the policy."""
    found = {}
    for arm in dict.fromkeys(decision["arm"] for decision in decisions):
        rows = [decision for decision in decisions if decision["arm"] == arm]
        means = {
            key: sum(row[key] for row in rows) / len(rows)
            for key in ("simulations", "steps", "checks", "evaluations", "seconds")
        }
        found[arm] = {
            "decisions": len(rows), **{f"{key}_per_decision": value for key, value in means.items()},
            "solved": sum(row["successes"] > 0 for row in rows),
            "fell_back": sum(bool(row["fallback"]) for row in rows),
        }  # fmt: skip
    return found


def main(arguments: list[str]) -> Output:
    command = tyro.cli(PlanCommand, prog="volar plan", args=arguments)
    info, maker = prepare(command)
    jobs = paired_jobs(info, max_steps=command.max_steps, other_instruction=lambda task, seed: "")
    build = partial(make_env, cameras=maker.cameras)
    count = evaluate(command.out, info, jobs, make_env=build, make_actor=maker, workers=command.workers)
    decisions = kept_decisions(command.out)

    from volar.evaluation.summary import summarise
    from volar.evaluation.tables import to_markdown
    from volar.evaluation.verdict import verdict

    summary, cost = summarise(command.out), summary_of(decisions)
    rows = [
        f"{arm}: {row['simulations_per_decision']:.1f} simulations, {row['steps_per_decision']:.0f} simulator steps, "
        f"{row['checks_per_decision']:.0f} success checks, {row['seconds_per_decision']:.2f} s per decision; "
        f"{row['solved']:.0f} of {row['decisions']:.0f} decisions saw a success, {row['fell_back']:.0f} fell back"
        for arm, row in cost.items()
    ]
    data = {"run": str(command.out), "episodes_run": count, "verdict": verdict(summary), "planning": cost}
    data["arms"] = {arm.name: asdict(arm.overall) if arm.overall else None for arm in summary.arms}
    used = "What no robot has, in the mean:\n" + "\n".join(rows)
    return Output(json.loads(json.dumps(data)), f"{to_markdown(summary)}\n\n{used}\n\nRecords: {command.out}")
