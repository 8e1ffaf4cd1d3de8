"""`volar demo`: the whole road on real physics and real pretrained weights, in less than half an hour on two cores."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.cli.collect import Collect, collect
from volar.cli.evaluate import Evaluate, run_evaluation
from volar.cli.output import Output
from volar.core.atomic import write_files
from volar.core.errors import ConfigError
from volar.policies.config import PolicyConfig
from volar.train.config import TrainConfig

# Two pairs start from the very same picture, so only the instruction says what to do; push leaves head-room.
TASKS = (
    "metaworld/faucet-open-shared",
    "metaworld/faucet-close-shared",
    "metaworld/window-open-shared",
    "metaworld/window-close-shared",
    "metaworld/button-press-topdown",
    "metaworld/push",
)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Collect demonstrations, train one policy for all tasks, evaluate it beside its control arms, and report.

    Interrupted, the same command goes on where it stopped.
    """

    out: Path = Path("runs/demo")
    """folder of the demo"""
    demonstrations: int = 25
    """per task"""
    steps: int = 2500
    """of training"""
    episodes: int = 20
    """per task and arm"""
    workers: int = 2
    """simulator processes"""


def recipe(steps: int) -> TrainConfig:
    return TrainConfig(
        policy=PolicyConfig(
            backbone="compact", decoder="regression", horizon=8,
            normalise_action="min_max", normalise_proprioception="mean_std",
        ),
        steps=steps, batch=64, stride=2,
    )  # fmt: skip


@contextmanager
def phase(path: Path, name: str) -> Iterator[None]:
    """Add the seconds of the block to phase `name` in the file, also when it is interrupted."""
    print(f"\n{name} ...", file=sys.stderr, flush=True)
    started = time.perf_counter()
    try:
        yield
    finally:
        phases = json.loads(path.read_text()) if path.is_file() else {}
        phases[name] = phases.get(name, 0.0) + time.perf_counter() - started
        write_files({path: json.dumps(phases, indent=1).encode()})


def run_demo(command: Demo) -> Path:
    """Returns the report's path. Raises ConfigError at once when the pretrained weights are not there."""
    from volar.backbones.weights import status
    from volar.evaluation.report import write_report
    from volar.train.loop import train

    if missing := [each.part.name for each in status() if each.problem]:
        raise ConfigError(f"Pretrained weights are missing: {', '.join(missing)}. Run `volar weights install` first.")
    out = command.out
    with phase(out / "phases.json", "collect"):
        collect(Collect(tasks=TASKS, out=out / "data", episodes=command.demonstrations, workers=command.workers))
    with phase(out / "phases.json", "train"):
        train(recipe(command.steps), out / "data", out / "train")
    with phase(out / "phases.json", "evaluate"):
        run_evaluation(
            Evaluate(
                policies=(out / "train",), tasks=TASKS, out=out / "evaluation", execute=4,
                episodes=command.episodes, workers=command.workers, title="Meta-World demo",
            )
        )  # fmt: skip
    for name in ("metrics.jsonl", "compute.json"):
        shutil.copyfile(out / "train" / name, out / "evaluation" / name)
    shutil.copyfile(out / "phases.json", out / "evaluation" / "phases.json")
    return write_report(out / "evaluation", out / "report.html")


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Demo, prog="volar demo", args=arguments)

    from volar.evaluation.summary import summarise
    from volar.evaluation.tables import print_table
    from volar.evaluation.verdict import verdict

    page = run_demo(command)
    summary = summarise(command.out / "evaluation")
    print_table(summary)
    results = page.with_name("results.json")
    return Output(
        {"report": str(page), "results": str(results), "verdict": verdict(summary)},
        f"\n{verdict(summary)}\n\nReport:  {page}\nResults: {results}",
    )
