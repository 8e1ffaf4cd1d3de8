"""From the study's records to docs/results/planning: raw rows, figures, tables and curves.

PYTHONPATH=bench/decoders python bench/planning/analyse.py --out docs/results/planning [--runs OUT]
"""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from cells import BASES, PARTS, SEEDS
from curves import Curve, draw

from volar.evaluation.records import read
from volar.statistics.bootstrap import hierarchical_difference
from volar.statistics.intervals import Interval, count_pairs, wilson
from volar.statistics.paired import mcnemar_stratified

PLANNERS = ("tree_search", "best_of_n")


@dataclass(frozen=True, kw_only=True)
class Analyse:
    """Write raw.jsonl.gz, results.json, tables.md and two figures."""

    out: Path
    runs: Path | None = None
    """the study's runs; without it the raw rows in OUT are read again"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One episode. seconds: wall time of its decisions. simulations, simulator_steps, checks: of all of them together.
    first: whether the first decision simulated a success; None without a planner."""

    part: str
    base: str
    cell: str
    training: int
    scene: int
    success: bool
    seconds: float
    decisions: int
    simulations: int = 0
    simulator_steps: int = 0
    checks: int = 0
    first: bool | None = None


def rows_of(runs: Path) -> Iterator[Row]:
    for folder in sorted(path.parent for path in runs.glob("*/*/episodes.jsonl")):
        spent: dict[tuple[str, int], list[dict[str, Any]]] = {}
        decisions = sorted((folder / "decisions").glob("*.jsonl")) if (folder / "decisions").exists() else []
        for line in (line for path in decisions for line in path.read_text().splitlines()):
            known = json.loads(line)
            spent.setdefault((known["arm"], known["seed"]), []).append(known)
        for record in read(folder / "episodes.jsonl"):
            episode, (arm, _, scene) = record.episode, record.key
            assert episode.success is not None, episode.error
            name, _, training = arm.partition("@")
            planned = spent.get((arm, scene), [])
            yield Row(
                part=folder.parent.name, base=next(base for base in BASES if folder.name.startswith(base)),
                cell=name, training=int(training),
                scene=scene, success=episode.success, seconds=sum(episode.latencies),
                decisions=len(episode.latencies), simulator_steps=episode.simulator_steps,
                simulations=sum(each["simulations"] for each in planned),
                checks=sum(each["checks"] for each in planned),
                first=planned[0]["successes"] > 0 if planned else None,
            )  # fmt: skip


def outcomes(rows: Sequence[Row], part: str, base: str, cell: str) -> dict[int, list[bool]]:
    """scene -> success of every training, where all of them have met it."""
    known = {(row.training, row.scene): row.success
             for row in rows if (row.part, row.base, row.cell) == (part, base, cell)}  # fmt: skip
    scenes = sorted({scene for _, scene in known if all((seed, scene) in known for seed in SEEDS)})
    return {scene: [known[seed, scene] for seed in SEEDS] for scene in scenes}


def difference(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """First minus second of each task's pair [trainings scenes], both of the same trainings: these and the scenes are
    resampled together. p: McNemar's exact test over all pairs of episodes."""
    apart = np.full((len(SEEDS), len(pairs), max(first.shape[1] for first, _ in pairs)), np.nan)
    for task, (first, second) in enumerate(pairs):
        apart[:, task, : first.shape[1]] = first.astype(float) - second
    interval = hierarchical_difference(apart, np.where(np.isnan(apart[:1]), np.nan, 0.0), seed=0)
    counts = [count_pairs(first.ravel(), second.ravel()) for first, second in pairs]
    return {**asdict(interval), "p": mcnemar_stratified(counts), "pairs": sum(count.total for count in counts)}


def cell_figures(rows: Sequence[Row]) -> dict[str, Any]:
    won = sum(row.success for row in rows)
    decisions = sum(row.decisions for row in rows)
    later = [row for row in rows if row.first is False]
    return {
        "episodes": len(rows), "success": asdict(wilson(won, len(rows))),
        "seconds_per_decision": sum(row.seconds for row in rows) / decisions,
        "simulations_per_episode": sum(row.simulations for row in rows) / len(rows),
        "simulator_steps_per_episode": sum(row.simulator_steps for row in rows) / len(rows),
        "checks_per_episode": sum(row.checks for row in rows) / len(rows),
        "failures": len(rows) - won,
        "failures_without_success_at_first_decision": sum(not row.success and row.first is False for row in rows),
        "unsolved_at_first_decision": len(later), "of_these_solved_later": sum(row.success for row in later),
    }  # fmt: skip


def others_of(part: str, cell: str) -> tuple[tuple[str, str], ...]:
    """The arms, (part, name), that this one is compared with."""
    if cell == "policy":
        return ()
    alone = ("dynamics" if part == "dynamics" else "budgets", "policy")
    count = cell.rpartition("-")[2]
    if part == "proposals":
        return alone, ("budgets", f"tree_search-{count}"), ("verified", f"flat-around-{count}")
    if part == "verified":
        return alone, ("budgets", f"best_of_n-{count}")
    if cell.startswith("open_loop"):
        return alone, (part, cell.replace("open_loop", "replan"))
    return (alone, (part, cell.replace(*PLANNERS))) if cell.startswith(PLANNERS[0]) else (alone,)


def study(rows: Sequence[Row]) -> dict[str, Any]:
    """Every arm, and its differences on every task and on all of them, each task with the same weight."""
    cells: dict[str, Any] = {}
    differences: dict[str, Any] = {}
    for part in dict.fromkeys(row.part for row in rows):
        for cell in dict.fromkeys(row.cell for row in rows if row.part == part):
            pairs: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
            for base in BASES:
                mine = [row for row in rows if (row.part, row.base, row.cell) == (part, base, cell)]
                if mine:
                    cells[f"{part}/{base}/{cell}"] = cell_figures(mine)
                ours = outcomes(rows, part, base, cell)
                for where, other in others_of(part, cell):
                    theirs = outcomes(rows, where, base, other)
                    common = sorted(ours.keys() & theirs.keys())
                    if common:
                        arms = (np.array([arm[scene] for scene in common]).T for arm in (ours, theirs))
                        pairs.setdefault(other, {})[base] = next(arms), next(arms)
            for other, each in pairs.items():
                own = {base: difference([pair]) for base, pair in each.items()}
                all_of_them = {"all": difference(list(each.values()))} if len(each) > 1 else {}
                differences[f"{part}/{cell} minus {other}"] = {**own, **all_of_them}
    return {"cells": cells, "differences": differences, "gains_together": gains_together(rows)}


def gains_together(rows: Sequence[Row], base: str = "push") -> dict[str, Any]:
    """V6: the mean over the three wrong gains, scene by scene, against other arms of that part."""
    found: dict[str, Any] = {}
    for follow in ("open_loop", "replan"):
        wrong = [outcomes(rows, "dynamics", base, f"{follow}-gain-{error}") for error in (5, 10, 20)]
        for other in ("policy", f"{follow}-none", "replan-gain"):
            theirs = (
                [outcomes(rows, "dynamics", base, f"{other}-{error}") for error in (5, 10, 20)]
                if other == "replan-gain" else [outcomes(rows, "dynamics", base, other)]
            )  # fmt: skip
            common = sorted(set.intersection(*(set(arm) for arm in (*wrong, *theirs))))
            if not common or (follow, other) == ("replan", "replan-gain"):
                continue
            ours, their = (
                np.array([[arm[scene] for scene in common] for arm in arms]).mean(0).T[:, None]
                for arms in (wrong, theirs)
            )
            interval = hierarchical_difference(ours - their, np.zeros_like(ours[:1]), seed=0)
            found[f"{follow}-gain minus {other}"] = {**asdict(interval), "scenes": len(common)}
    return found


def percent(interval: Mapping[str, float]) -> str:
    return f"{100 * interval['estimate']:.0f} ({100 * interval['low']:.0f} to {100 * interval['high']:.0f})"


def points(interval: Mapping[str, float]) -> str:
    low, high = (100 * interval[side] for side in ("low", "high"))
    return f"{100 * interval['estimate']:+.0f} ({low:+.0f} to {high:+.0f}), p {interval['p']:.2g}"


def tables(found: Mapping[str, Any]) -> str:
    lines = ["# Tables of the planning study", "",
             "Success in % with 95 % intervals over episodes. Simulations and simulator steps, every",
             "one with a success check, are means per episode; seconds are wall time on shared cores. See",
             "[planning.md](../planning.md).", "",
             "| part/policy/arm | episodes | success | simulations | simulator steps | s per decision | "
             "unsolved at the first decision | of these solved later |",
             "| " + " | ".join(["---"] * 8) + " |"]  # fmt: skip
    for name, cell in found["cells"].items():
        assert cell["checks_per_episode"] == cell["simulator_steps_per_episode"], "every step is checked"
        values = [
            name, cell["episodes"], percent(cell["success"]), f"{cell['simulations_per_episode']:.0f}",
            f"{cell['simulator_steps_per_episode']:.0f}", f"{cell['seconds_per_decision']:.2f}",
            cell["unsolved_at_first_decision"], cell["of_these_solved_later"],
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, values)) + " |")
    lines += ["", "## Differences", "",
              "In points; trainings and scenes resampled together, p of McNemar's exact test.", "",
              "| arms | task | pairs | difference |", "| --- | --- | --- | --- |"]  # fmt: skip
    lines += [f"| {name} | {task} | {one['pairs']} | {points(one)} |"
              for name, each in found["differences"].items() for task, one in each.items()]  # fmt: skip
    return "\n".join(lines) + "\n"


def curves(found: Mapping[str, Any], cost: str) -> dict[str, list[Curve]]:
    """The policy alone is drawn at one simulation, or at what its decision takes."""
    panels: dict[str, list[Curve]] = {}
    for base in BASES:
        for planner in PLANNERS:
            spots = []
            for part in ("budgets", "large"):
                for cell in PARTS[part]():
                    figures = found["cells"].get(f"{part}/{base}/{cell}")
                    if figures is None or not (cell.startswith(planner) or (cell == "policy" and part == "budgets")):
                        continue
                    number = 1 if cell == "policy" else int(cell.rpartition("-")[2])
                    spot = number if cost == "simulations" else figures["seconds_per_decision"]
                    spots.append((float(spot), Interval(**figures["success"])))
            if spots:
                panels.setdefault(base, []).append(Curve(planner, sorted(spots, key=lambda each: each[0])))
    return panels


def main(command: Analyse) -> None:
    command.out.mkdir(parents=True, exist_ok=True)
    raw = command.out / "raw.jsonl.gz"
    if command.runs is not None:
        lines = "".join(json.dumps(asdict(row)) + "\n" for row in rows_of(command.runs))
        raw.write_bytes(gzip.compress(lines.encode(), mtime=0))
    rows = [Row(**json.loads(line)) for line in gzip.decompress(raw.read_bytes()).decode().splitlines()]
    found = study(rows)
    (command.out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (command.out / "tables.md").write_text(tables(found))
    for cost, axis in (("simulations", "simulations per decision; 1 stands for the policy alone"),
                       ("seconds", "seconds per decision")):  # fmt: skip
        (command.out / f"success_{cost}.svg").write_text(draw(curves(found, cost), axis))


if __name__ == "__main__":
    main(tyro.cli(Analyse))
