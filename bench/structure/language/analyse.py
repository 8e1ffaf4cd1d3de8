"""Tables of the language study from its rows: rates with intervals, paired differences, what went wrong.

python bench/structure/language/analyse.py ROWS.jsonl[.gz] > docs/results/structure/language/tables.md
"""

import gzip
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from study import CHAINS, CLONES, PARTS, PILLARS, SCREENS

from volar.statistics.intervals import Interval, count_pairs, mean_rate, paired_difference
from volar.statistics.multiple import holm
from volar.statistics.paired import mcnemar_stratified

Rows = dict[tuple[str, str], dict[int, dict]]
CHAIN_HEADS = ("1 step", "2 steps", "4 steps", "5 steps")
ADVICE = ("directions", "random", "bare")


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The first arm against the second, on the scenes that both met."""

    first: str
    second: str
    tasks: tuple[str, ...]
    scenes: int
    difference: Interval
    p: float


def read(path: Path) -> Rows:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows: Rows = defaultdict(dict)
    for line in content.splitlines():
        row = json.loads(line)
        rows[row["arm"], row["task"]][row["seed"]] = row
    return rows


def rate(rows: Rows, arms: Sequence[str], tasks: Iterable[str]) -> str:
    """Mean over tasks and, for clones, over trainings; every task weighs the same."""
    cells = [rows[arm, task] for task in tasks for arm in arms if rows.get((arm, task))]
    if not cells:
        return "-"
    wins = [sum(row["success"] is True for row in cell.values()) for cell in cells]
    found = mean_rate(wins, [len(cell) for cell in cells])
    return f"{_percent(found)} of {sum(len(cell) for cell in cells)}"


def _percent(interval: Interval) -> str:
    return f"{100 * interval.estimate:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def compare(rows: Rows, first: str, second: str, tasks: Sequence[str]) -> Compared | None:
    pairs = []
    for task in tasks:
        one, two = rows.get((first, task), {}), rows.get((second, task), {})
        seeds = sorted(one.keys() & two.keys())
        if seeds:
            pairs.append(count_pairs(*(np.array([cell[s]["success"] is True for s in seeds]) for cell in (one, two))))
    if not pairs:
        return None
    return Compared(first=first, second=second, tasks=tuple(tasks), scenes=sum(pair.total for pair in pairs),
                    difference=paired_difference(pairs), p=mcnemar_stratified(pairs, mid=True))  # fmt: skip


def causes(rows: Rows, arm: str, tasks: Iterable[str]) -> str:
    found = Counter(row["cause"] or row["outcome"] for task in tasks for row in rows.get((arm, task), {}).values()
                    if row["success"] is not True)  # fmt: skip
    return ", ".join(f"{cause} {count}" for cause, count in found.most_common(3)) or "-"


def steps(rows: Rows, arm: str, tasks: Iterable[str]) -> str:
    found = [row["steps"] for task in tasks for row in rows.get((arm, task), {}).values() if row["success"] is True]
    return f"{np.mean(found) / 20:.1f}" if found else "-"


def overall(rows: Rows, name: str) -> None:
    """One line per arm of a part."""
    part = PARTS[name]
    arms = [*part.arms, *(["tuned before"] if name == "models, L1" else [])]  # an earlier model, told less
    print("| arm | success in % | seconds, where it succeeds | failures |\n| --- | --- | --- | --- |")
    for arm in arms:
        cells = (rate(rows, [arm], part.tasks), steps(rows, arm, part.tasks), causes(rows, arm, part.tasks))
        print(f"| {arm} | {' | '.join(cells)} |")
    print()


def by_task(rows: Rows, arms: Sequence[str], tasks: Sequence[str], heads: Sequence[str]) -> None:
    print(f"| arm | {' | '.join(heads)} |\n| --- |{' --- |' * len(heads)}")
    for arm in arms:
        print(f"| {arm} | {' | '.join(rate(rows, [arm], [task]) for task in tasks)} |")
    print()


def corrections(rows: Rows) -> None:
    tasks = PARTS["L3"].tasks
    print("| corrections | directions | random | bare |\n| --- | --- | --- | --- |")
    for count in range(4):
        arms = ["vias, erring" if count == 0 else f"vias, erring, {count} of {advice}" for advice in ADVICE]
        print(f"| {count} | {' | '.join(rate(rows, [arm], tasks) for arm in arms)} |")
    print(f"\nWithout an error: {rate(rows, ['vias'], tasks)}.\n")


def claims(rows: Rows) -> None:
    """All paired comparisons, with Holm's correction across them."""
    near, far = SCREENS[:2], SCREENS[2:]
    asked = [
        ("vias", "raw early", near), ("vias", "raw early", far), ("vias", "raw solved", near),
        ("raw solved", "raw early", near), ("raw early", "raw by index", far), ("vias", "straight", SCREENS),
        ("vias", "raw early", PILLARS), ("vias", "waypoints", PILLARS), ("raw early", "raw by index", PILLARS),
        *(("vias, blurred", f"{other}, blurred", PILLARS) for other in ("raw early", "raw solved", "waypoints")),
        *((f"vias, erring, {count} of directions", f"vias, erring, {count} of {other}", PARTS["L3"].tasks)
          for count in (1, 3) for other in ADVICE[1:]),
        ("vias, erring, 3 of bare", "vias, erring", PARTS["L3"].tasks),
        *((first, second, (task,)) for task in PARTS["L5"].tasks
          for first, second in (("vias", "vias, whole"), ("vias", "vias, forgetful"))),
        ("vias, hasty", "vias, hasty, heedless", PARTS["waiting"].tasks),
        ("raw early, hasty", "raw early, hasty, heedless", PARTS["waiting"].tasks),
        ("vias", "waypoints", ("horizon-1",)), ("vias", "waypoints", ("horizon-1-knocked",)),
        *(("vias", clone, PILLARS) for clone in CLONES), ("tuned", "teacher", PILLARS),
        ("tuned before", "teacher", PILLARS),
        *(pair for task in CHAINS
          for pair in (("tuned", "teacher", (task,)), ("tuned", "tuned, whole", (task,)))),
        *(("tuned", other, PARTS["models, untuned"].tasks) for other in ("untuned", "untuned, whole")),
    ]  # fmt: skip
    found = [made for first, second, tasks in asked if (made := compare(rows, first, second, tasks))]
    corrected = holm([made.p for made in found])
    print("| first | second | tasks | scenes | difference in points | p, Holm |\n| --- | --- | --- | --- | --- | --- |")
    for made, p in zip(found, corrected, strict=True):
        tasks = made.tasks[0] if len(made.tasks) == 1 else f"{made.tasks[0]} to {made.tasks[-1]}"
        value = "< 0.0001" if p < 1e-4 else f"{p:.4f}"
        print(f"| {made.first} | {made.second} | {tasks} | {made.scenes} | {_percent(made.difference)} | {value} |")
    print()


def main(path: Path) -> None:
    rows = read(path)
    print(f"{sum(len(cell) for cell in rows.values())} episodes. Rates and differences with 95 % intervals.\n")
    for name, title in (
        ("L1", "L1: pillars"),
        ("L1 blurred", "L1 with perception 12 mm off"),
        ("L2", "L2: all screens"),
    ):
        print(f"## {title}\n")
        overall(rows, name)
    print("## L1: the clones\n")
    print("| training seed | success in % | failures |\n| --- | --- | --- |")
    for clone in CLONES:
        print(f"| {clone} | {rate(rows, [clone], PILLARS)} | {causes(rows, clone, PILLARS)} |")
    print(f"| all | {rate(rows, CLONES, PILLARS)} | |\n")
    print("## L2: by fraction of the way\n")
    by_task(rows, [*PARTS["L2"].arms, "slow vias"], SCREENS, [f"{screen.split('-')[1]} %" for screen in SCREENS])
    print("## L3: corrections\n")
    corrections(rows)
    print("## L5: sub-tasks\n")
    by_task(rows, PARTS["L5"].arms, PARTS["L5"].tasks, CHAIN_HEADS)
    for name, title in (("waiting", "A primitive that waits for the hand"), ("knocked", "A cube that is knocked away")):
        print(f"## {title}\n")
        by_task(rows, PARTS[name].arms, PARTS[name].tasks, PARTS[name].tasks)
    print("## A language model in L1\n")
    overall(rows, "models, L1")
    print("## A language model in L5\n")
    by_task(rows, (*PARTS["models, horizon-1"].arms, "tuned before", "tuned before, whole"), tuple(CHAINS), CHAIN_HEADS)
    print("## The language model as it comes\n")
    by_task(rows, PARTS["models, untuned"].arms, PARTS["models, untuned"].tasks, PARTS["models, untuned"].tasks)
    overall(rows, "models, untuned")
    print("## Paired comparisons\n")
    claims(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
