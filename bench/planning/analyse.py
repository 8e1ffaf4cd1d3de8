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
                part=folder.parent.name, base=folder.name.rpartition("-")[0], cell=name, training=int(training),
                scene=scene, success=episode.success, seconds=sum(episode.latencies),
                decisions=len(episode.latencies), simulator_steps=episode.simulator_steps,
                simulations=sum(each["simulations"] for each in planned),
                checks=sum(each["checks"] for each in planned),
                first=planned[0]["successes"] > 0 if planned else None,
            )  # fmt: skip


def outcomes(rows: Sequence[Row], part: str, base: str, cell: str) -> np.ndarray | None:
    """[trainings scenes] of the scenes that every training has met; None where there are none."""
    known = {(row.training, row.scene): row.success
             for row in rows if (row.part, row.base, row.cell) == (part, base, cell)}  # fmt: skip
    scenes = sorted({scene for _, scene in known if all((seed, scene) in known for seed in SEEDS)})
    return np.array([[known[seed, scene] for scene in scenes] for seed in SEEDS]) if scenes else None


def difference(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> dict[str, Any]:
    """first minus second, each [trainings scenes] per task with the same trainings in both: these and the scenes are
    resampled together. p: McNemar's exact test over all pairs."""
    size = min(len(each[0]) for each in (*first, *second))
    apart = np.stack([a[:, :size].astype(float) - b[:, :size] for a, b in zip(first, second, strict=True)], axis=1)
    interval = hierarchical_difference(apart, np.zeros_like(apart[:1]), seed=0)
    pairs = [count_pairs(a[:, :size].ravel(), b[:, :size].ravel()) for a, b in zip(first, second, strict=True)]
    return {**asdict(interval), "p": mcnemar_stratified(pairs), "pairs": sum(pair.total for pair in pairs)}


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


def study(rows: Sequence[Row]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cells": {},
        "minus_policy": {},
        "search_minus_best_of_n": {},
        "open_loop_minus_replan": {},
    }
    for part, base in dict.fromkeys((row.part, row.base) for row in rows):
        mine = [row for row in rows if (row.part, row.base) == (part, base)]
        alone = outcomes(rows, "budgets" if part == "proposals" else part, base, "policy")
        for cell in dict.fromkeys(row.cell for row in mine):
            name = f"{part}/{base}/{cell}"
            found["cells"][name] = cell_figures([row for row in mine if row.cell == cell])
            ours = outcomes(rows, part, base, cell)
            if cell != "policy" and ours is not None and alone is not None:
                found["minus_policy"][name] = difference([ours], [alone])
            other = outcomes(rows, part, base, cell.replace(*PLANNERS)) if cell.startswith(PLANNERS[0]) else None
            if ours is not None and other is not None:
                found["search_minus_best_of_n"][name] = difference([ours], [other])
            other = outcomes(rows, part, base, cell.replace("open_loop", "replan"))
            if cell.startswith("open_loop") and ours is not None and other is not None:
                found["open_loop_minus_replan"][name] = difference([ours], [other])
    return {**found, "pooled": pooled(rows)}


def pooled(rows: Sequence[Row]) -> dict[str, Any]:
    """All tasks of a part together, each with the same weight."""
    found = {}
    for part in dict.fromkeys(row.part for row in rows):
        for cell in dict.fromkeys(row.cell for row in rows if row.part == part):
            each = {base: outcomes(rows, part, base, cell) for base in BASES}
            for other in ("policy", cell.replace(*PLANNERS), cell.replace("open_loop", "replan")):
                against = {base: outcomes(rows, part, base, other) for base in BASES}
                shared = [base for base in BASES if each[base] is not None and against[base] is not None]
                if other != cell and len(shared) > 1:
                    pairs = [(each[base], against[base]) for base in shared]
                    ours, theirs = ([pair[side] for pair in pairs if pair[side] is not None] for side in (0, 1))
                    found[f"{part}/{cell} minus {other}"] = {"bases": shared, **difference(ours, theirs)}
    return found


def percent(interval: Mapping[str, float]) -> str:
    return f"{100 * interval['estimate']:.0f} ({100 * interval['low']:.0f} to {100 * interval['high']:.0f})"


def points(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return ""
    low, high = (100 * interval[side] for side in ("low", "high"))
    return f"{100 * interval['estimate']:+.0f} ({low:+.0f} to {high:+.0f}), p {interval['p']:.2g}"


def tables(found: Mapping[str, Any]) -> str:
    lines = ["# Tables of the planning study", "",
             "Success in % with 95 % intervals over episodes; differences in points, trainings and scenes resampled",
             "together, p of McNemar's exact test; see [planning.md](../planning.md).", "",
             "| part/policy/arm | episodes | success | minus policy alone | search minus best-of-N | simulations | "
             "simulator steps = success checks | s per decision | unsolved at the first decision | of these solved "
             "later |",
             "| " + " | ".join(["---"] * 10) + " |"]  # fmt: skip
    for name, cell in found["cells"].items():
        checks = f"{cell['simulator_steps_per_episode']:.0f}"
        assert cell["checks_per_episode"] == cell["simulator_steps_per_episode"], "every step is checked"
        values = [
            name, cell["episodes"], percent(cell["success"]), points(found["minus_policy"].get(name)),
            points(found["search_minus_best_of_n"].get(name)), f"{cell['simulations_per_episode']:.0f}", checks,
            f"{cell['seconds_per_decision']:.2f}", cell["unsolved_at_first_decision"], cell["of_these_solved_later"],
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, values)) + " |")
    for title, key in (("Open loop minus replanning", "open_loop_minus_replan"), ("All tasks", "pooled")):
        lines += ["", f"## {title}", "", "| arms | pairs | difference |", "| --- | --- | --- |"]
        lines += [f"| {name} | {each['pairs']} | {points(each)} |" for name, each in found[key].items()]
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
