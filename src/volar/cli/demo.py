"""`volar demo`: the whole road on real physics and real pretrained weights: does a flow or an equilibrium decoder beat
plain regression at equal training compute? In less than half an hour on two cores."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.cli.collect import Collect, collect
from volar.cli.compare import Compare, run_compare
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
# Regression comes first: the simplest is what the others have to beat. Fewer, larger steps than equilibrium's default,
# so that a decision takes a tenth of a second here.
SETTINGS = (
    "flow.policy.decoder=flow",
    "equilibrium.policy.decoder=equilibrium",
    "equilibrium.policy.decoder_options.evaluations=16",
    "equilibrium.policy.decoder_options.step=0.05",
)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Collect demonstrations, train three policies at equal compute, compare them on paired scenes, and report.

    Interrupted, the same command goes on where it stopped.
    """

    out: Path = Path("runs/demo")
    """folder of the demo"""
    demonstrations: int = 25
    """per task"""
    steps: int = 1000
    """of training for regression; the others get as many FLOPs"""
    episodes: int = 20
    """scenes per task at most"""
    workers: int = 2
    """simulator processes"""


def recipe() -> TrainConfig:
    return TrainConfig(
        policy=PolicyConfig(
            backbone="compact", decoder="regression", horizon=8,
            normalise_action="min_max", normalise_proprioception="mean_std",
        ),
        batch=64, stride=2,
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

    if missing := [each.part.name for each in status() if each.problem]:
        raise ConfigError(f"Pretrained weights are missing: {', '.join(missing)}. Run `volar weights install` first.")
    out = command.out
    with phase(out / "phases.json", "collect"):
        collect(Collect(tasks=TASKS, out=out / "data", episodes=command.demonstrations, workers=command.workers))
    with phase(out / "phases.json", "compare"):
        return run_compare(
            Compare(
                sources=tuple(f"{name}={os.path.relpath(__file__)}" for name in ("regression", "flow", "equilibrium")),
                set=(f"all.steps={command.steps}", *SETTINGS), data=str(out / "data"), tasks=TASKS,
                out=out / "comparison", match="train-flops", execute=("4",), episodes=command.episodes,
                control_scenes=8, films=8,
                question="Does a flow or an equilibrium decoder beat regression at equal training compute?",
                workers=command.workers,
            )
        )  # fmt: skip


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Demo, prog="volar demo", args=arguments)
    page = run_demo(command)

    from volar.comparison.analyse import analyse

    result = analyse(page.parent)
    words = "\n".join(result.verdict)
    return Output(
        {"report": str(page), "result": str(page.with_name("result.json")), "verdict": list(result.verdict)},
        f"\n{words}\n\nReport: {page}",
    )
