"""From the study's records to docs/results/structure/thoughts: raw rows, figures as JSON, and the tables of the page.

python bench/structure/thoughts/analyse.py --out docs/results/structure/thoughts [--runs RUN/runs]
"""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro
from variants import ARMS, LATE, PAIRS, STEERED, TRAINED, task

from volar.core.robot import Episode
from volar.evaluation.records import read
from volar.statistics.bootstrap import hierarchical_difference
from volar.statistics.intervals import Interval, mean_rate

LIFTED, MOVED = 0.02, 0.03  # metres, as in the family's own signs
MEASURES = ("success", "lifted", "other", "tokens", "evaluations", "true", "steps")
Row = list  # part, arm, training seed, task, scene, then MEASURES
GROUPS = {kind: tuple(task(pair) for pair in pairs) for kind, pairs in PAIRS.items()}
DIFFERENCES = (
    *((name, "none") for name in ARMS if name != "none"),
    ("pre-training", "none-twice"), ("dropout", "ecot"), ("dropout", "scaffolding"), ("ecot, fast", "ecot"),
    ("dropout, thinking", "dropout"), ("hybrid, thinking", "hybrid"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Analyse:
    """Write raw.jsonl.gz, results.json and tables.md."""

    out: Path
    runs: Path | None = None
    """the study's runs; without it the rows in OUT are read again"""


@dataclass(frozen=True)
class Cell:
    """An arm on a group of tasks: measure -> [training seed, task, scene]."""

    seeds: tuple[int, ...]
    values: dict[str, np.ndarray]

    def rate(self, measure: str) -> Interval:
        won = self.values[measure]
        return mean_rate(won.sum((0, 2)).astype(int).tolist(), [won.shape[0] * won.shape[2]] * won.shape[1])

    def mean(self, measure: str) -> float:
        return float(self.values[measure].mean())


def rows(folders: Iterable[Path]) -> list[Row]:
    found = []
    for folder in sorted(folders):
        part = folder.name.partition("-")[0]
        for record in read(folder / "episodes.jsonl"):
            job = record.episode.job
            assert record.episode.success is not None, f"{job} broke: {record.episode.error}"
            arm, _, seed = job.arm.partition("@")
            found.append([part, arm, int(seed), job.task, job.seed, *measured(record.episode)])
    return found


def measured(episode: Episode) -> list[float]:
    """true: share of the looks whose sub-task names the cube, and where it names one the region, of the task."""
    thoughts, looks = episode.thoughts, max(1, len(episode.evaluations))
    cube, _, region = episode.job.task.partition("sort-")[2].partition("-to-")
    texts = [thought.words["subtask"].split() for thought in thoughts if "subtask" in thought.words]
    named = [f"{cube}" in text and (text[0] != "bring" or region in text) for text in texts if text[:1] != ["finish"]]
    tracks = episode.tracks
    return [
        int(bool(episode.success)),
        int(tracks["object_lifted"].high > LIFTED), int(tracks["others_moved"].high > MOVED),
        round(sum(thought.tokens for thought in thoughts) / looks, 3), round(sum(episode.evaluations) / looks, 3),
        round(float(np.mean(named)), 3) if named else -1.0, episode.steps,
    ]  # fmt: skip


def cell(found: Sequence[Row], part: str, arm: str, tasks: Sequence[str]) -> Cell | None:
    """None unless every training seed that is there has every task and scene."""
    own = [row for row in found if row[0] == part and row[1] == arm and row[3] in tasks]
    seeds, scenes = sorted({row[2] for row in own}), sorted({row[4] for row in own})
    if not own or len(own) != len(seeds) * len(tasks) * len(scenes):
        return None
    shape = (len(seeds), len(tasks), len(scenes))
    values = {name: np.zeros(shape) for name in MEASURES}
    for row in own:
        place = seeds.index(row[2]), tasks.index(row[3]), scenes.index(row[4])
        for name, value in zip(MEASURES, row[5:], strict=True):
            values[name][place] = value
    return Cell(tuple(seeds), values)


def percent(interval: Interval) -> str:
    return f"{100 * interval.estimate:.0f} ({100 * interval.low:.0f} to {100 * interval.high:.0f})"


def points(interval: Interval) -> str:
    return f"{100 * interval.estimate:+.0f} ({100 * interval.low:+.0f} to {100 * interval.high:+.0f})"


def table(head: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(str(value) for value in line) + " |" for line in lines) + "\n"


def arms_table(cells: dict[tuple[str, str], Cell]) -> str:
    body = []
    for name in ARMS:
        both = [cells[name, kind] for kind in GROUPS if (name, kind) in cells]
        if len(both) == len(GROUPS):
            told = [percent(each.rate(measure)) for each in both for measure in ("success", "lifted")]
            counts = [f"{np.mean([each.mean(measure) for each in both]):.1f}" for measure in ("tokens", "evaluations")]
            true = [f"{100 * each.mean('true'):.0f}" if each.mean("true") >= 0 else "" for each in both]
            body.append([name, len(both[0].seeds), *counts, *told, " / ".join(filter(None, true))])
    head = ["arm", "trainings", "tokens a look", "evaluations a look"]
    return table(
        [*head, *(f"{kind} pairs: {what}" for kind in GROUPS for what in ("placed", "lifted")), "true words"], body
    )


def difference(first: Cell, second: Cell, measure: str) -> Interval | None:
    """Trainings and scenes resampled together; None where the two have not the same trainings, or fewer than 2."""
    if first.seeds != second.seeds or len(first.seeds) < 2:
        return None
    return hierarchical_difference(first.values[measure], second.values[measure], seed=0)


def main(command: Analyse) -> None:
    raw = command.out / "raw.jsonl.gz"
    command.out.mkdir(parents=True, exist_ok=True)
    if command.runs is not None:
        text = "\n".join(json.dumps(row) for row in rows(command.runs.iterdir()))
        raw.write_bytes(gzip.compress(text.encode(), mtime=0))
    found = [json.loads(line) for line in gzip.decompress(raw.read_bytes()).decode().splitlines()]
    cells = {(arm, kind): each for arm in ARMS for kind, tasks in GROUPS.items()
             if (each := cell(found, "plain", arm, tasks)) is not None}  # fmt: skip
    against = [
        [first, second, *(points(gap) if gap else "" for gap in gaps)]
        for first, second in DIFFERENCES if all((arm, kind) in cells for arm in (first, second) for kind in GROUPS)
        for gaps in [[difference(cells[first, kind], cells[second, kind], "success") for kind in GROUPS]] if any(gaps)
    ]  # fmt: skip
    judged = {(cube, region): task((cube, region)) for cube, region in TRAINED}
    steered = {arm: each for arm in STEERED if (each := cell(found, "steering", arm, tuple(judged.values())))}
    steering = table(
        ["arm", "trainings", "tokens a look", "lifts the cube of the edit", "places it", "moves another cube"],
        [[name, len(each.seeds), f"{each.mean('tokens'):.1f}",
          *(percent(each.rate(measure)) for measure in ("lifted", "success", "other"))]
         for name, each in steered.items()],
    )  # fmt: skip
    late = {"ecot": cells.get(("ecot", "trained"))} | {
        arm: cell(found, "late", arm, tuple(judged.values())) for arm in LATE
    }
    aged = table(
        ["arm", "trainings", "tokens a look", "placed", "lifted"],
        [[name, len(each.seeds), f"{each.mean('tokens'):.1f}",
          *(percent(each.rate(measure)) for measure in ("success", "lifted"))]
         for name, each in late.items() if each is not None],
    )  # fmt: skip
    tables = [
        "# Chain of thought: all cells\n", arms_table(cells),
        "\nDifferences in placing, percentage points:\n",
        table(["arm", "against", *(f"{kind} pairs" for kind in GROUPS)], against), "\nEdits by a person:\n", steering,
        "\nThoughts that come late, trained pairs:\n", aged,
    ]  # fmt: skip
    (command.out / "tables.md").write_text("\n".join(tables))
    figures = {
        "plain": {f"{arm}, {kind}": asdict(each.rate("success")) | {"tokens": each.mean("tokens")}
                  for (arm, kind), each in cells.items()},
        "steering": {arm: asdict(each.rate("lifted")) for arm, each in steered.items()},
    }  # fmt: skip
    (command.out / "results.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Analyse))
