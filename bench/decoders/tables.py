"""Reads the study's records into one array per cell; keeps them as a small file beside the results."""

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from variants import TASKS

from volar.evaluation.records import read
from volar.statistics.bootstrap import hierarchical_difference
from volar.statistics.intervals import Interval, mean_rate, wilson

COLUMNS = ("cell", "seed", "task", "scene", "success", "steps", "evaluations", "latency_ms", "strangeness",
           "stage", "cause")  # fmt: skip


@dataclass(frozen=True)
class CellResult:
    """All arrays are [training seed, task, scene]. strangeness: mean over an episode's decisions, NaN where the decoder
    tells none. latency: median milliseconds of a decision of the whole batch."""

    success: np.ndarray
    steps: np.ndarray
    evaluations: np.ndarray
    strangeness: np.ndarray
    latency: float

    @property
    def rates(self) -> np.ndarray:
        """[task]"""
        return self.success.mean((0, 2))

    def task_interval(self, task: int) -> Interval:
        found = self.success[:, task]
        return wilson(int(found.sum()), found.size)

    def interval(self) -> Interval:
        won = self.success.sum((0, 2))
        return mean_rate(won.tolist(), [self.success.shape[0] * self.success.shape[2]] * len(TASKS))


def rows(folders: Iterable[Path]) -> list[tuple]:
    found = []
    for folder in folders:
        for record in read(folder / "episodes.jsonl"):
            episode, job = record.episode, record.episode.job
            cell, _, seed = job.arm.partition("@")
            assert episode.success is not None, f"{job} broke: {episode.error}"
            strange = float(np.mean(episode.strangeness)) if episode.strangeness else None
            failure = episode.failure
            found.append((
                cell, int(seed), TASKS.index(job.task), job.seed, int(episode.success), episode.steps,
                round(float(np.mean(episode.evaluations)), 3), round(1000 * float(np.median(episode.latencies)), 2),
                None if strange is None else round(strange, 4),
                failure.stage if failure else None, failure.cause if failure else None,
            ))  # fmt: skip
    return found


def save(path: Path, found: list[tuple]) -> None:
    text = "\n".join(json.dumps(row) for row in found)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def load(path: Path) -> list[list]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def cells(found: Iterable[list]) -> Mapping[str, CellResult]:
    """Only cells whose every training seed, task and scene is there."""
    grouped: dict[str, list[list]] = {}
    for row in found:
        grouped.setdefault(row[0], []).append(row)
    return {name: table for name, group in grouped.items() if (table := _cell(group)) is not None}


def _cell(group: list[list]) -> CellResult | None:
    seeds, scenes = sorted({row[1] for row in group}), sorted({row[3] for row in group})
    shape = (len(seeds), len(TASKS), len(scenes))
    if len(group) != np.prod(shape):
        return None
    arrays = {name: np.full(shape, np.nan) for name in ("success", "steps", "evaluations", "strangeness")}
    for _, seed, task, scene, success, steps, evaluations, _, strangeness, _, _ in group:
        place = seeds.index(seed), task, scenes.index(scene)
        arrays["success"][place] = success
        arrays["steps"][place] = steps
        arrays["evaluations"][place] = evaluations
        arrays["strangeness"][place] = np.nan if strangeness is None else strangeness
    return CellResult(**arrays, latency=float(np.median([row[7] for row in group])))


def difference(first: CellResult, second: CellResult, task: int | None = None) -> Interval:
    """First minus second over the same scenes, trainings and scenes resampled; one task or the mean over all."""
    chosen = slice(None) if task is None else slice(task, task + 1)
    return hierarchical_difference(first.success[:, chosen], second.success[:, chosen], seed=0)
