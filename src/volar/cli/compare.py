"""`volar compare A B ...`: does B really beat A? Equal compute, paired scenes, a test that may stop early, one page."""

import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from volar.cli.evaluate import Control
from volar.cli.output import Output
from volar.comparison.matching import Axis

Design = Literal["auto", "anytime", "group", "fixed"]
Allowance = Literal["success-semantics", "simulator", "max-steps", "execute", "tasks", "provenance"]


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Train what has to be trained, run paired episodes until the question is answered, and report.

    Interrupted, the same command goes on where it stopped. The plan is frozen with a hash before the first episode; in
    its folder a changed command is refused.
    """

    sources: tyro.conf.Positional[tuple[str, ...]]
    """two or more of [NAME=]WHERE: a recipe (.py), a checkpoint or training run, ws://host:port, or an evaluation
    (episodes.jsonl or its folder, #ARM where it holds several); the first is the reference"""
    out: Path
    """folder of the comparison"""
    tasks: tuple[str, ...] = ()
    """such as metaworld/faucet-open; by default those of the records"""
    set: tuple[str, ...] = ()
    """settings of recipes: ARM.KEY=VALUE such as flow.policy.decoder=flow; `all.steps=500` is for every recipe"""
    data: str | None = None
    """folder or URL of the data set that recipes are trained on"""
    training_seeds: tuple[int, ...] = (0,)
    """every recipe is trained once with each"""
    match: Literal[Axis, "auto"] = "auto"
    """what all arms get the same amount of; auto: train-flops when all are recipes, else none"""
    budget: float | None = None
    """that amount, such as 2e15 FLOPs; by default what the reference takes"""
    episodes: int | None = None
    """scenes per task at most; by default 100, or those of the records"""
    first_seed: int | None = None
    """scenes use the seeds from here upwards; by default 1000, or the first of the records"""
    max_steps: int | None = None
    """control steps until time-out; by default 150, or those of the records"""
    execute: tuple[str, ...] = ()
    """actions carried out per look: one number for all, or ARM=N; by default half of the shortest horizon"""
    design: Design = "auto"
    """anytime: stops as soon as the evidence is there; group: a few planned looks; fixed: all scenes, one test; auto:
    anytime, for records fixed"""
    looks: tuple[int, ...] = ()
    """scenes per task at which the test is evaluated; by default 20 for anytime, 5 for group"""
    alpha: float = 0.05
    """chance of any false claim of a difference"""
    margin: float = 0.05
    """arms that differ by less than this success rate count as equivalent"""
    controls: tuple[Control, ...] = ("shuffled_instruction", "blank_images", "random_actions", "expert")
    """control arms, run with the first policy of each arm"""
    control_scenes: int = 20
    """scenes per task that control arms meet, at most"""
    films: int = 20
    """scenes per task that are filmed"""
    allow: tuple[Allowance, ...] = ()
    """differences between arms that are accepted, and told in the report"""
    unpaired: bool = False
    """compare records whose scenes differ as independent samples"""
    question: str | None = None
    """heading of the report"""
    device: str | None = None
    """where recipes are trained: cpu, cuda ...; by default what accelerate finds"""
    workers: int = 2
    """processes that run episodes"""
    ray: str | None = None
    """address of a Ray cluster whose processes are the workers"""
    token_variable: str | None = None
    """environment variable that holds the token of policy servers"""
    open: bool = False
    """show the page in the browser"""


def run_compare(command: Compare) -> Path:
    """Returns the page's path. Raises ConfigError before anything expensive when something does not fit."""
    from volar.cli.compare_plan import make_plan
    from volar.cli.compare_run import keep_ledger, run_episodes, train_members
    from volar.comparison.page import write_comparison_page
    from volar.comparison.protocol import freeze

    plan = make_plan(command)
    sha256 = freeze(command.out, plan.protocol)
    print(f"Protocol {sha256[:12]} is frozen in {command.out / 'protocol.json'}.", file=sys.stderr, flush=True)
    policies = train_members(plan, command)
    run_episodes(plan, command, policies)
    keep_ledger(plan, command, policies)
    return write_comparison_page(command.out)


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Compare, prog="volar compare", args=arguments)
    page = run_compare(command)

    from volar.comparison.analyse import analyse

    result = analyse(command.out)
    if command.open:
        webbrowser.open(page.resolve().as_uri())
    pairs = [pair for pair in result.pairs if pair.registered]
    data = {
        "run": str(command.out), "report": str(page), "result": str(page.with_name("result.json")),
        "protocol": result.registration.sha256, "verdict": list(result.verdict),
        "pairs": {pair.other: {"standing": pair.standing, "adjusted_p": pair.adjusted_p} for pair in pairs},
        "scenes_per_task": result.looks[-1]["scenes"] if result.looks else 0,
        "deviations": list(result.deviations), "warnings": list(result.warnings),
    }  # fmt: skip
    notes = [f"Deviation: {each}" for each in result.deviations] + [f"Note: {each}" for each in result.warnings]
    return Output(data, "\n".join(["", *result.verdict, *([""] * bool(notes)), *notes, "", f"Report:  {page}"]))
