"""All tokenizers on three kinds of data, and how they take the sampling rate. Writes the numbers as JSON, the tables as
Markdown, and the drawings as SVG. Demonstrations come from Meta-World's scripted experts, without rendering, and pass
through the LeRobot writer and reader.

    python bench/tokenizers/study.py --out bench/tokenizers/study --figures docs/results/tokenizers --extra FOLDER
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import torch
import tyro
from motions import smooth_motions

from volar.core.robot import Job, RobotSpec
from volar.data.writer import DatasetWriter
from volar.envs import TABLE as ENVIRONMENTS
from volar.envs import make_env
from volar.envs.rollout import rollout
from volar.evaluation.token_page import Curve, chart, examples, number, prefix_curves, size_against_error, with_range
from volar.evaluation.tokens import METRICS, Comparison, Motions, compare, read_motions
from volar.tokenizers import TABLE

TASKS = ("reach", "faucet-open", "peg-insert-side")  # free motion, one contact, grasp and insertion
RATES = (10, 20, 50, 100, 200, 500)
# Half of the default training or less: the whole study stays at minutes of one thread.
SHORT: dict[str, dict[str, Any]] = {
    "vq": {"steps": 600}, "rvq": {"steps": 500}, "fsq": {"steps": 1200}, "spline_rvq": {"steps": 200},
}  # fmt: skip
COLUMNS = (
    "tokens", "bits", "surprise", "relative", "rmse", "worst", "seam", "jerk", "valid_flipped", "used", "entropy",
    "overlap", "saturated", "encode_us", "decode_us", "fit_seconds",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Study:
    """extra: a LeRobot v3.0 data set of other people, measured too."""

    out: Path
    figures: Path
    extra: Path | None = None
    episodes: int = 50
    splits: int = 3


def expert_motions(task: str, episodes: int) -> Motions:
    """Successful demonstrations with execution noise 0.1; written to disk and read again as a user's would be."""
    expert = ENVIRONMENTS.load("metaworld").expert
    jobs = [
        Job(task=f"metaworld/{task}", seed=seed, arm="expert", max_steps=300, noise=0.1) for seed in range(episodes)
    ]
    found = rollout(jobs, make_env=lambda name: make_env(name, cameras={}), make_actor=lambda _: expert(), workers=0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / f"metaworld-{task}"
        spec = make_env(f"metaworld/{task}", cameras={}).spec
        bare = RobotSpec(action=spec.action, cameras=(), proprioception=spec.proprioception)
        facts = {"camera_storage": {}, "robot_type": "metaworld", "extra": {}}
        with DatasetWriter(root, spec=bare, fps=spec.action.rate_hz, **facts) as writer:
            for episode in found:
                if episode.success and episode.trajectory is not None:
                    trajectory = replace(episode.trajectory, images={}, image_steps=())
                    writer.add(trajectory, episode.instruction, source={"task": task, "seed": episode.job.seed})
        return read_motions(root)


def synthetic(rate: int, *, episodes: int, seconds: int, noise: float = 0.0) -> Motions:
    """Six joints (rad) through five random points a second, and a gripper that switches once."""
    steps = rate * seconds
    pieces = smooth_motions(episodes, steps=steps, knots=5 * seconds + 1, noise=noise, seed=7)
    names = (*(f"joint {index} (rad)" for index in range(6)), "gripper")
    return Motions(
        name=f"synthetic, {rate} Hz", trajectories=tuple(pieces), rate_hz=float(rate), dimensions=names, grippers=(6,)
    )


def table(comparison: Comparison) -> str:
    """Markdown: metrics across, tokenizers down."""
    rows = [["", *COLUMNS], ["---"] * (len(COLUMNS) + 1)]
    for row in comparison.rows:
        rows.append([f"`{row.name}`", *(with_range(row.metrics[metric]) for metric in COLUMNS)])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def datasets(command: Study) -> Iterator[tuple[Motions, int]]:
    """Each with its horizon: about what policies use there."""
    for task in TASKS:
        yield expert_motions(task, command.episodes), 16
    yield synthetic(50, episodes=100, seconds=4, noise=0.002), 50
    if command.extra is not None:
        yield read_motions(command.extra), 10


def sweep(say: Callable[[str], None]) -> dict[int, Comparison]:
    """The same second of motion at every rate. Learned tokenizers keep their number of tokens: patches grow."""
    found = {}
    for rate in RATES:
        options = SHORT | {"rvq": {"steps": 300, "patch": -(-rate // 6)}}
        motions = synthetic(rate, episodes=600, seconds=1)
        say(f"{rate} Hz")
        found[rate] = compare(motions, list(TABLE), horizon=rate, options=options, splits=1, progress=say)
    return found


def sweep_chart(found: Mapping[int, Comparison], metric: str, title: str) -> str:
    names = [row.name for row in next(iter(found.values())).rows]
    curves = {
        name: Curve(
            x=[float(rate) for rate in found],
            y=[row.metrics[metric].mean for one in found.values() for row in one.rows if row.name == name],
        )
        for name in names
    }
    return chart(curves, across="samples per second", up=METRICS[metric].split(",")[0], title=title, log=(True, True))


def sweep_table(found: Mapping[int, Comparison], metric: str) -> str:
    rows = [["Hz", *(f"`{row.name}`" for row in next(iter(found.values())).rows)]]
    rows.append(["---"] * len(rows[0]))
    rows += [[str(rate), *(number(row.metrics[metric].mean) for row in one.rows)] for rate, one in found.items()]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def main(command: Study) -> None:
    torch.set_num_threads(1)
    for folder in (command.out, command.figures):
        folder.mkdir(parents=True, exist_ok=True)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    texts, numbers = [], {}
    for motions, horizon in datasets(command):
        say(f"{motions.name}: {len(motions.trajectories)} episodes")
        comparison = compare(motions, list(TABLE), horizon=horizon, splits=command.splits, options=SHORT, progress=say)
        numbers[motions.name] = [
            {"name": row.name, "metrics": {key: asdict(value) for key, value in row.metrics.items()},
             "prefix": [estimate.mean for estimate in row.prefix]}
            for row in comparison.rows
        ]  # fmt: skip
        steps = sum(map(len, motions.trajectories))
        texts.append(
            f"### {motions.name}\n\n{len(motions.trajectories)} episodes, {steps} steps, "
            f"{len(motions.dimensions)} dimensions, {motions.rate_hz:g} Hz; chunks of {horizon}; "
            f"{comparison.fitted_chunks} fitted, {comparison.held_out_chunks} held out (first split).\n\n"
            f"{table(comparison)}\n"
        )
        stem = "".join(letter if letter.isalnum() else "-" for letter in motions.name)
        drawings = {"size": size_against_error, "prefix": prefix_curves, "examples": examples}
        for kind, draw in drawings.items():
            (command.figures / f"{stem}-{kind}.svg").write_text(draw(comparison))
    found = sweep(say)
    for metric in ("tokens", "relative"):
        (command.figures / f"rate-{metric}.svg").write_text(sweep_chart(found, metric, "one second of motion"))
        texts.append(f"### {METRICS[metric]}, against the rate\n\n{sweep_table(found, metric)}\n")
        numbers[f"rate, {metric}"] = {
            rate: {row.name: row.metrics[metric].mean for row in one.rows} for rate, one in found.items()
        }
    (command.out / "study.json").write_text(json.dumps(numbers, indent=1) + "\n")
    (command.out / "tables.md").write_text("\n".join(texts))


if __name__ == "__main__":
    main(tyro.cli(Study))
