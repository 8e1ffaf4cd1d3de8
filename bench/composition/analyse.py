"""From the study's records to docs/results/composition: raw rows, results.json and the tables of the page.

PYTHONPATH=bench/composition python bench/composition/analyse.py --runs OUT --gap GAP --out docs/results/composition
"""

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from cells import SEARCH_SCENE, SEEDS, TASKS, WEIGHTS

from volar.evaluation.records import read
from volar.statistics.auc import Ranked, mean_area
from volar.statistics.bootstrap import hierarchical_difference
from volar.statistics.intervals import Interval, mean_rate, wilson

MIXED = "flow/convex/front+side/{:g}"
FRONT, SIDE, HALF = MIXED.format(0), MIXED.format(1), MIXED.format(0.5)
EQUILIBRIUM = ("convex", "and", "vote", "switch", "axis")
DIFFERENCES = (
    *((MIXED.format(w), FRONT) for w in WEIGHTS[1:]),
    *((MIXED.format(w), SIDE) for w in WEIGHTS[1:-1]),
    (HALF, "flow/twins-front"), (HALF, "flow/twins-side"), ("flow/twins-front", FRONT), ("flow/twins-side", SIDE),
    ("flow/axis", HALF), ("flow/axis", FRONT), ("flow/axis", SIDE), ("flow/vote", HALF), ("flow/vote", FRONT),
    *((f"equilibrium/{name}", f"equilibrium/{alone}") for name in EQUILIBRIUM for alone in ("front", "side")),
    *((f"equilibrium/{name}", "equilibrium/convex") for name in EQUILIBRIUM[1:]),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Analyse:
    """Write raw.jsonl.gz, results.json and tables.md; without runs the raw rows in OUT are read again."""

    out: Path
    runs: Path | None = None
    gap: Path | None = None


@dataclass(frozen=True)
class Row:
    cell: str
    seed: int
    task: str
    scene: int
    success: bool
    evaluations: float


def rows(folders: Iterable[Path]) -> list[Row]:
    found = []
    for folder in folders:
        for record in read(folder / "episodes.jsonl"):
            episode, job = record.episode, record.episode.job
            cell, _, seed = job.arm.rpartition("@")
            assert episode.success is not None, f"{job} broke: {episode.error}"
            task = job.task.partition("/")[2]
            evaluations = round(float(np.mean(episode.evaluations)), 3)
            found.append(Row(cell, int(seed), task, job.seed, episode.success, evaluations))
    return found


def outcomes(found: Iterable[Row]) -> dict[str, np.ndarray]:
    """Cell -> success [training seed, task, scene], scenes that every cell has met with every seed."""
    grouped: dict[str, dict[tuple[int, str, int], bool]] = {}
    for row in found:
        grouped.setdefault(row.cell, {})[row.seed, row.task, row.scene] = row.success
    arrays = {}
    for cell, known in grouped.items():
        scenes = sorted({scene for _, _, scene in known})
        whole = [s for s in scenes if all((seed, task, s) in known for seed in SEEDS for task in TASKS)]
        if not whole:
            continue
        arrays[cell] = np.array([[[known[seed, task, s] for s in whole] for task in TASKS] for seed in SEEDS])
    return arrays


def interval_of(success: np.ndarray) -> Interval:
    return mean_rate(success.sum((0, 2)).tolist(), [success.shape[0] * success.shape[2]] * len(TASKS))


def difference(first: np.ndarray, second: np.ndarray, task: int | None = None, *, anew: bool = False) -> Interval:
    """For these trained policies, which both arms share, by resampling scenes; anew: for policies trained again."""
    scenes = min(first.shape[2], second.shape[2])  # the first ones are the same
    chosen = slice(None) if task is None else slice(task, task + 1)
    a, b = (each[:, chosen, :scenes].astype(float) for each in (first, second))
    if not anew:
        a, b = a.mean(0, keepdims=True), b.mean(0, keepdims=True)
    return hierarchical_difference(a, b, seed=0)


def searched(grid: Mapping[str, np.ndarray], judged: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The weight that most validation episodes chose for each training seed, judged on the other scenes."""
    points = [MIXED.format(w) for w in WEIGHTS]
    chosen = [int(np.argmax([grid[point][seed].sum() for point in points])) for seed in range(len(SEEDS))]
    alone = [max((FRONT, SIDE), key=lambda name: grid[name][seed].sum()) for seed in range(len(SEEDS))]
    found = np.stack([judged[points[choice]][seed] for seed, choice in enumerate(chosen)])
    best_alone = np.stack([judged[name][seed] for seed, name in enumerate(alone)])
    return {
        "weights": [WEIGHTS[choice] for choice in chosen], "rate": asdict(interval_of(found)),
        "episodes_per_seed": int(sum(grid[point][0].size for point in points)),
        "minus_half": asdict(difference(found, judged[HALF])),
        "minus_better_alone": asdict(difference(found, best_alone)),
        "half_minus_better_alone": asdict(difference(judged[HALF], best_alone)),
    }  # fmt: skip


def gaps(path: Path) -> dict[str, Any]:
    """How far readings of the composed chunks tell failures: AUROC of an episode's mean, all trainings together."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    result: dict[str, Any] = {}
    for cell, task in sorted({(row["cell"], row["task"]) for row in found}):
        some = [row for row in found if (row["cell"], row["task"]) == (cell, task)]
        told: dict[str, Any] = {"episodes": len(some), "success": float(np.mean([row["success"] for row in some]))}
        for name in ("composed", "members"):
            told[name] = float(np.mean([np.mean(row[name]) for row in some]))
            told[f"{name}_auroc"] = _area(some, name)
        result[f"{cell}/{task}"] = told
    return result


def _area(some: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    failed, won = (np.array([float(np.mean(row[name])) for row in some if row["success"] == each]) for each in (0, 1))
    return asdict(mean_area([Ranked(good=failed, bad=won)], seed=0)) if min(len(failed), len(won)) >= 5 else None


def percent(interval: Interval) -> str:
    return f"{100 * interval.estimate:.0f} ({100 * interval.low:.0f}–{100 * interval.high:.0f})"


def points(interval: Interval) -> str:
    return f"{100 * interval.estimate:+.0f} ({100 * interval.low:+.0f} to {100 * interval.high:+.0f})"


def tables(found: Mapping[str, np.ndarray], evaluations: Mapping[str, float]) -> str:
    lines = ["| cell | evaluations | " + " | ".join(TASKS) + " | mean |", "| --- " * (len(TASKS) + 3) + "|"]
    for cell, success in found.items():
        each = [wilson(int(success[:, k].sum()), success[:, k].size) for k in range(len(TASKS))]
        told = [percent(one) for one in (*each, interval_of(success))]
        lines.append(f"| {cell} | {evaluations[cell]:.1f} | " + " | ".join(told) + " |")
    lines += [
        "", "| difference | " + " | ".join(TASKS) + " | mean | mean, trained anew |", "| --- " * (len(TASKS) + 3) + "|"
    ]  # fmt: skip
    for first, second in DIFFERENCES:
        if first in found and second in found:
            pair = found[first], found[second]
            told = [points(difference(*pair, k)) for k in (*range(len(TASKS)), None)]
            told.append(points(difference(*pair, anew=True)))
            lines.append(f"| {first} minus {second} | " + " | ".join(told) + " |")
    return "\n".join(lines) + "\n"


def main(command: Analyse) -> None:
    raw = command.out / "raw.jsonl.gz"
    command.out.mkdir(parents=True, exist_ok=True)
    if command.runs is not None:
        found = rows(sorted(path.parent for path in command.runs.glob("*/episodes.jsonl")))
        text = "\n".join(json.dumps(list(asdict(row).values())) for row in found)
        raw.write_bytes(gzip.compress(text.encode(), mtime=0))
    found = [Row(*json.loads(line)) for line in gzip.decompress(raw.read_bytes()).decode().splitlines()]
    judged = outcomes(row for row in found if row.scene < SEARCH_SCENE)
    grid = outcomes(row for row in found if row.scene >= SEARCH_SCENE)
    evaluations = {cell: float(np.mean([row.evaluations for row in found if row.cell == cell])) for cell in judged}
    results: dict[str, Any] = {
        "tasks": TASKS, "training_seeds": SEEDS,
        "scenes": {cell: success.shape[2] for cell, success in judged.items()},
        "rates": {cell: asdict(interval_of(success)) for cell, success in judged.items()},
        "differences": {
            f"{a} minus {b}": {
                "these": asdict(difference(judged[a], judged[b])),
                "anew": asdict(difference(judged[a], judged[b], anew=True)),
            }
            for a, b in DIFFERENCES if a in judged and b in judged
        },
    }  # fmt: skip
    if grid:
        results["search"] = searched(grid, judged)
    if command.gap is not None:
        results["gap"] = gaps(command.gap)
    elif (command.out / "results.json").exists():
        results["gap"] = json.loads((command.out / "results.json").read_text()).get("gap")
    (command.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (command.out / "tables.md").write_text(tables(judged, evaluations))


if __name__ == "__main__":
    main(tyro.cli(Analyse))
