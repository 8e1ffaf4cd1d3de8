"""From the study's rows to docs/results/structure/visual: the raw rows compressed, figures as JSON, and the tables.

python bench/structure/visual/analyse.py --out docs/results/structure/visual [--runs RUN/raw.jsonl]
"""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from arms import DELAYS, DEMONSTRATIONS, ERRORS, PARTS, POINTED, SEEDS, WAYS, Cell

from volar.envs.tabletop.tasks import sort
from volar.statistics.bootstrap import hierarchical_difference
from volar.statistics.intervals import Interval, mean_rate, wilson

Row = Mapping[str, Any]
CELLS: Mapping[str, Cell] = {name: cell for part in PARTS.values() for name, cell in part.items()}
PLACED, LEARNED, NEW = "placed", "trained pairs", "held-out pairs"
STAGES: Mapping[str, Callable[[Row], bool]] = {
    "first mark at its cube": lambda row: bool(row["cube"]),
    "reached": lambda row: bool(row["reached"]),
    "picked": lambda row: bool(row["picked"]),
    "last mark at its region": lambda row: bool(row["region"]),
    PLACED: lambda row: bool(row["success"]),
}
AGAINST = (
    *(("point", name) for name in ("none", "none-longer", "auxiliary")), ("auxiliary", "none"),
    ("point/oracle", "point"), ("point/oracle", "none"), ("point/shuffled", "point"),
    *(("bottleneck", name) for name in ("none", "point")),
    *((f"bottleneck/{by}", f"point/{by}") for by in ("oracle", "shuffled")), ("bottleneck/oracle", "bottleneck"),
    *((form, "point") for form in ("box", "regions", "markers")),
    *((f"{name}/oracle+{pixels}", f"{name}/oracle") for name in ("point", "bottleneck") for pixels in POINTED),
    *((f"error-{pixels}", other) for pixels in ERRORS for other in ("point", "none")),
    *((f"late-{frames}", other) for frames in DELAYS for other in ("point", "none")),
    *((f"point-{count}", f"none-{count}") for count in DEMONSTRATIONS[:-1]),
    *((f"seen, {way}", "seen, none") for way in WAYS), *((f"seen, {way}/oracle", f"seen, {way}") for way in WAYS),
    *((f"{name}, {kind}", f"none-by, {kind}") for kind in ("straight", "detours")
      for name in ("point-by", "bottleneck-by", "point-by/oracle", "bottleneck-by/oracle")),
    *((f"bottleneck-by/oracle, {kind}", f"point-by/oracle, {kind}") for kind in ("straight", "detours")),
    *((f"{name}, detours", "point-by, detours") for name in ("auxiliary-by", "point-by/shuffled")),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Analyse:
    """Write raw.jsonl.gz, results.json and tables.md."""

    out: Path
    runs: Path | None = None
    """the study's rows; without it those in OUT are read again"""


@dataclass(frozen=True)
class Arm:
    """A cell's rows on one group of tasks: [training seed, task, scene]."""

    rows: np.ndarray

    def outcomes(self, stage: str) -> np.ndarray:
        return np.vectorize(STAGES[stage], otypes=[bool])(self.rows)

    def rate(self, stage: str) -> Interval:
        """Chance in the scenes; every task weighs the same."""
        won = self.outcomes(stage)
        return mean_rate(won.sum((0, 2)).tolist(), [won.shape[0] * won.shape[2]] * won.shape[1])

    def given(self, stage: str, before: str) -> Interval | None:
        """Of the episodes that came through `before`, those that came through `stage`."""
        among = self.outcomes(before)
        return wilson(int((self.outcomes(stage) & among).sum()), int(among.sum())) if among.any() else None


Arms = Mapping[str, Mapping[str, Arm]]  # cell -> group -> arm


def group_of(cell: Cell, task: str) -> str:
    if cell.variant.endswith("by"):
        return "straight" if task in sort.STRAIGHT else "detours"
    return LEARNED if task in sort.TRAINED else NEW


def arms(rows: Sequence[Row]) -> Arms:
    """Only cells that every training has run."""
    found: dict[str, dict[str, Arm]] = {}
    for name, cell in CELLS.items():
        own = {(row["seed"], row["task"], row["scene"]): row for row in rows if row["cell"] == name}
        if {seed for seed, _, _ in own} != set(SEEDS):
            continue
        for group in dict.fromkeys(group_of(cell, task) for task in cell.tasks):
            tasks = [task for task in cell.tasks if group_of(cell, task) == group]
            scenes = sorted({scene for _, task, scene in own if task == tasks[0]})
            table = np.array([[[own[seed, task, scene] for scene in scenes] for task in tasks] for seed in SEEDS])
            found.setdefault(name, {})[group] = Arm(table)
    return found


def difference(found: Arms, first: str, second: str, group: str, stage: str = PLACED) -> Interval:
    """First minus second on the same scenes; trainings and scenes resampled. Two ways to run the same weights differ
    training by training."""
    ours, theirs = (found[name][group].outcomes(stage).astype(float) for name in (first, second))
    if CELLS[first].variant == CELLS[second].variant:
        ours, theirs = ours - theirs, np.zeros_like(theirs[:1])
    return hierarchical_difference(ours, theirs, seed=0)


def percent(interval: Interval | None) -> str:
    return (
        "-"
        if interval is None
        else f"{100 * interval.estimate:.0f} ({100 * interval.low:.0f} to {100 * interval.high:.0f})"
    )


def points(interval: Interval) -> str:
    return f"{100 * interval.estimate:+.0f} ({100 * interval.low:+.0f} to {100 * interval.high:+.0f})"


def table(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    lines = [list(head), ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def rates(found: Arms, part: str) -> str:
    """Success of every cell of a part, each training apart as well."""
    beside = () if part.startswith("P2") else ("none", "point", "point/oracle")
    names = [name for name in dict.fromkeys((*beside, *PARTS[part])) if name in found]
    body = [
        (name, group, arm.rows.size, percent(arm.rate(PLACED)),
         ", ".join(f"{100 * rate:.0f}" for rate in arm.outcomes(PLACED).mean((1, 2))))
        for name in names for group, arm in found[name].items()
    ]  # fmt: skip
    return table(("cell", "on", "episodes", "success, %", "each training"), body)


def stages(found: Arms, names: Sequence[str]) -> str:
    """How many came through each stage; of those that picked, who then marked the region and who placed."""
    body = [
        (name, group, "-" if name == "none" else percent(arm.rate("first mark at its cube")),
         percent(arm.rate("reached")), percent(arm.rate("picked")),
         "-" if name == "none" else percent(arm.given("last mark at its region", "picked")),
         percent(arm.given(PLACED, "picked")), percent(arm.rate(PLACED)))
        for name in names if name in found for group, arm in found[name].items()
    ]  # fmt: skip
    head = ("cell", "on", "first mark at its cube", "reached", "picked", "of these: last mark at its region", "placed")
    return table((*head, "placed, of all"), body)


def differences(found: Arms) -> dict[str, dict[str, dict[str, Interval]]]:
    """comparison -> group -> stage -> interval."""
    return {
        f"{first} minus {second}": {
            group: {stage: difference(found, first, second, group, stage) for stage in ("picked", PLACED)}
            for group in found[first]
        }
        for first, second in AGAINST if {first, second} <= found.keys()
    }  # fmt: skip


def pages(found: Arms) -> str:
    parts = [
        "# Tables of the study of visual primitives\n\nIn % or points, with 95 % intervals; [visual.md](../visual.md)."
        " Rates: chance in the scenes; differences: chance in trainings and scenes, on the same scenes.\n"
    ]
    for part in PARTS:
        if any(name in found for name in PARTS[part]):
            parts += [f"## {part}\n", rates(found, part)]
    parts += ["## P3: stages\n", stages(found, (*PARTS["P1"], *PARTS["P1, without words"]))]
    body = [
        (name, group, points(each["picked"]), points(each[PLACED]))
        for name, groups in differences(found).items() for group, each in groups.items()
    ]  # fmt: skip
    parts += ["## Differences\n", table(("cells", "on", "picked", "placed"), body)]
    return "\n".join(parts)


def main(command: Analyse) -> None:
    command.out.mkdir(parents=True, exist_ok=True)
    raw = command.out / "raw.jsonl.gz"
    if command.runs is not None:
        raw.write_bytes(gzip.compress(command.runs.read_bytes(), mtime=0))
    found = arms([json.loads(line) for line in gzip.decompress(raw.read_bytes()).decode().splitlines()])
    results = {
        "rates": {name: {group: {stage: arm.rate(stage) for stage in STAGES} for group, arm in groups.items()}
                  for name, groups in found.items()},
        "differences": differences(found),
    }  # fmt: skip
    (command.out / "results.json").write_text(json.dumps(results, indent=1, default=vars) + "\n")
    (command.out / "tables.md").write_text(pages(found))
    print(pages(found))


if __name__ == "__main__":
    main(tyro.cli(Analyse))
