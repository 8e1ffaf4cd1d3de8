"""From the study's records to docs/results/decoders: raw rows, figures, and the tables of the page.

python bench/decoders/analyse.py --runs RUN/runs --out docs/results/decoders
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from curves import Curve, draw
from scipy.stats import rankdata
from tables import CellResult, cells, difference, load, rows, save
from variants import EVALUATIONS, STOPS, TASKS, TOKENIZERS

from volar.statistics.intervals import Interval

ITERATIVE = ("flow", "diffusion", "equilibrium", "discrete_diffusion-fast", "discrete_diffusion-beast")
POINTS = ("regression", "mip", "autoregressive-beast", "blockwise-beast")
ALGORITHMS = ("autoregressive", "jacobi", "blockwise", "discrete_diffusion")
SHORT = [task.partition("/")[2].removesuffix("-red") for task in TASKS]
FIXED, STOPPED = "equilibrium/64", "equilibrium/stop-0.5"
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Analyse:
    """Write raw.jsonl.gz, results.json, tables.md and two figures."""

    out: Path
    runs: Path | None = None
    """the study's runs; without it the raw rows in OUT are read again"""


def percent(interval: Interval) -> str:
    return f"{100 * interval.estimate:.0f} ({100 * interval.low:.0f}–{100 * interval.high:.0f})"


def points(interval: Interval) -> str:
    return f"{100 * interval.estimate:+.0f} ({100 * interval.low:+.0f} to {100 * interval.high:+.0f})"


def row(*values: object) -> str:
    return "| " + " | ".join(str(value) for value in values) + " |"


def table(head: list[str], body: list[str]) -> str:
    return "\n".join([row(*head), row(*["---"] * len(head)), *body]) + "\n"


def rates_table(found: Mapping[str, CellResult], clock: Mapping[str, float], names: list[str]) -> str:
    body = []
    for name in names:
        if name in found:
            cell, ms = found[name], f"{clock[name]:.1f}" if name in clock else ""
            each = [percent(cell.task_interval(k)) for k in range(len(TASKS))]
            body.append(row(name, f"{cell.evaluations.mean():.1f}", ms, *each, percent(cell.interval())))
    return table(["cell", "evaluations", "ms", *SHORT, "mean"], body)


def decline(found: Mapping[str, CellResult], decoder: str, counts: list[int], task: int) -> dict[str, Any]:
    """E1: how much the best number of evaluations beats the largest. The best is chosen on the resampled scenes and
    judged on the rest (out of bag), so that choosing does not flatter."""
    stack = np.stack([found[f"{decoder}/{count}"].success[:, task] for count in counts])  # [k seeds scenes]
    rng, drops = np.random.default_rng(0), []
    scenes = stack.shape[2]
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, scenes, scenes)
        rest = np.setdiff1d(np.arange(scenes), chosen)
        best = int(stack[:, :, chosen].mean((1, 2)).argmax())
        drops.append(stack[best][:, rest].mean() - stack[-1][:, rest].mean())
    rates = stack.mean((1, 2))
    low, high = np.quantile(drops, [0.025, 0.975])
    return {"best": counts[int(rates.argmax())], "rates": rates.round(4).tolist(),
            "drop": Interval(estimate=float(np.mean(drops)), low=float(low), high=float(high))}  # fmt: skip


def auroc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Chance that a positive has the larger score; ties count half."""
    scores, positive = scores.ravel(), positive.ravel().astype(bool)
    if positive.all() or not positive.any():
        return None
    ranks = rankdata(scores)
    count = positive.sum()
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (~positive).sum()))


def auroc_interval(scores: np.ndarray, positive: np.ndarray) -> dict[str, Any]:
    """scores, positive: [seed scene]; scenes are resampled."""
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(RESAMPLES // 4):
        chosen = rng.integers(0, scores.shape[1], scores.shape[1])
        draws.append(auroc(scores[:, chosen], positive[:, chosen]))
    known = [draw for draw in draws if draw is not None]
    return {"auroc": auroc(scores, positive),
            "low": float(np.quantile(known, 0.025)) if known else None,
            "high": float(np.quantile(known, 0.975)) if known else None}  # fmt: skip


def stop_regret(found: Mapping[str, CellResult]) -> dict[str, Any]:
    """E2: the best stop per task over resampled scenes, and what one stop for all tasks costs."""
    names = [f"equilibrium/stop-{stop:g}" for stop in STOPS]
    stack = np.stack([found[name].success for name in names])  # [stop seed task scene]
    rates = stack.mean((1, 3))
    rng, wins = np.random.default_rng(0), np.zeros((len(TASKS), len(STOPS)))
    regrets = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, stack.shape[3], stack.shape[3])
        rest = np.setdiff1d(np.arange(stack.shape[3]), chosen)
        picked, judged = stack[..., chosen].mean((1, 3)), stack[..., rest].mean((1, 3))  # [stop task]
        wins[np.arange(len(TASKS)), picked.argmax(0)] += 1 / RESAMPLES
        overall = int(picked.mean(1).argmax())
        own = judged[picked.argmax(0), np.arange(len(TASKS))]
        regrets.append((own - judged[overall]).mean())
    low, high = np.quantile(regrets, [0.025, 0.975])
    return {
        "stops": STOPS, "rates": rates.round(4).tolist(), "chance_to_be_best": wins.round(3).tolist(),
        "regret_of_one_stop": Interval(estimate=float(np.mean(regrets)), low=float(low), high=float(high)),
        "evaluations": [float(found[name].evaluations.mean()) for name in names],
    }  # fmt: skip


def each_task(found: Mapping[str, CellResult], name: str, base: str) -> dict[str, Interval]:
    """name minus base."""
    tasks = {short: difference(found[name], found[base], k) for k, short in enumerate(SHORT)}
    return {"all": difference(found[name], found[base]), **tasks}


def study(found: Mapping[str, CellResult]) -> dict[str, Any]:
    results: dict[str, Any] = {"tasks": TASKS}
    counts = {name: [count for count in EVALUATIONS if f"{name}/{count}" in found] for name in (*ITERATIVE, "exact")}
    results["E1"] = {name: [decline(found, name, counts[name], task) for task in range(len(TASKS))]
                     for name in counts if counts[name]}  # fmt: skip
    if all(f"equilibrium/stop-{stop:g}" in found for stop in STOPS):
        results["E2"] = stop_regret(found)
        cell = found["equilibrium/stop-0.5"]
        results["E3"] = {short: auroc_interval(cell.strangeness[:, k], 1 - cell.success[:, k])
                         for k, short in enumerate(SHORT)}  # fmt: skip
    fixed = found.get("equilibrium/64")
    if fixed is not None:
        results["E3_fixed_64"] = {short: auroc_interval(fixed.strangeness[:, k], 1 - fixed.success[:, k])
                                  for k, short in enumerate(SHORT)}  # fmt: skip
    results["E4"] = {
        str(count): each_task(found, f"equilibrium/{count}", f"flow/{count}")
        for count in EVALUATIONS if {f"equilibrium/{count}", f"flow/{count}"} <= found.keys()
    }  # fmt: skip
    if "equilibrium/warm-0.5" in found:
        versus = (("fixed, warm", "equilibrium/warm-0", FIXED), ("stop, cold", STOPPED, FIXED),
                  ("stop, warm", "equilibrium/warm-0.5", STOPPED), ("stop, cold", STOPPED, "flow/8"))  # fmt: skip
        results["parts"] = {f"{name} minus {base}": each_task(found, cell, base) for name, cell, base in versus}
    crossed = [(f"{algorithm}-{tokenizer}", f"autoregressive-{tokenizer}")
               for tokenizer in TOKENIZERS for algorithm in ALGORITHMS[1:]]  # fmt: skip
    results["against_autoregressive"] = {
        name: each_task(found, name, base) for name, base in crossed if {name, base} <= found.keys()
    }
    if "regression" in found:
        rivals = (
            "mip",
            "flow/8",
            "flow/16",
            "diffusion/8",
            "equilibrium/64",
            "discrete_diffusion-beast/16",
            "autoregressive-beast",
            "autoregressive-fast",
        )
        others = [name for name in rivals if name in found]
        results["against_regression"] = {name: each_task(found, name, "regression") for name in others}
    return results


def difference_table(found: Mapping[str, Mapping[str, Interval]], head: str) -> str:
    return table([head, *SHORT, "mean"], [row(name, *(points(each[short]) for short in SHORT), points(each["all"]))
                                          for name, each in found.items()])  # fmt: skip


def pages(found: Mapping[str, CellResult], clock: Mapping[str, float], results: dict[str, Any]) -> str:
    sweep = [f"{name}/{count}" for name in (*ITERATIVE, "exact") for count in EVALUATIONS]
    parts = [
        "# Tables of the decoder study\n\nSuccess in % with 95 % intervals; see [decoders.md](../decoders.md).",
        "Milliseconds are those of one decision of one robot.\n",
    ]
    parts += ["## Success against evaluations\n", rates_table(found, clock, [*sweep, *POINTS])]
    parts += ["## Against regression\n", difference_table(results.get("against_regression", {}), "minus regression")]
    parts += ["## E4: equilibrium minus flow\n", difference_table(results["E4"], "evaluations")]
    body = [
        row(name, SHORT[k], one["best"], points(one["drop"]))
        for name, tasks in results["E1"].items() for k, one in enumerate(tasks)
    ]  # fmt: skip
    parts += ["## E1: best number of evaluations against the largest\n",
              table(["decoder", "task", "best", "what the best gains"], body)]  # fmt: skip
    parts += ["## E2: stopping residual\n", rates_table(found, clock, [f"equilibrium/stop-{stop:g}" for stop in STOPS])]
    parts += ["## Parts of equilibrium matching\n",
              rates_table(found, clock, [FIXED, "equilibrium/warm-0", STOPPED, "equilibrium/warm-0.5"]),
              "\n" + difference_table(results.get("parts", {}), "difference")]  # fmt: skip
    crossed = [f"{algorithm}-{tokenizer}" for tokenizer in TOKENIZERS for algorithm in ALGORITHMS]
    parts += ["## Tokenizer and decoding algorithm\n", rates_table(found, clock, crossed),
              "\n" + difference_table(results["against_autoregressive"], "minus autoregressive")]  # fmt: skip
    return "\n".join(parts)


def figures(out: Path, found: Mapping[str, CellResult], clock: Mapping[str, float]) -> None:
    evaluations = {name: float(cell.evaluations.mean()) for name, cell in found.items()}
    for name, place in (("evaluations", evaluations), ("milliseconds", clock)):
        panels = {}
        for task, short in enumerate(SHORT):
            curves = []
            for decoder in (*ITERATIVE, "exact"):
                counts = [f"{decoder}/{count}" for count in EVALUATIONS]
                there = [cell for cell in counts if cell in place.keys() & found.keys()]
                curves.append(Curve(decoder, [(place[cell], found[cell].task_interval(task)) for cell in there]))
            curves += [
                Curve(one, [(place[one], found[one].task_interval(task))])
                for one in POINTS if one in place.keys() & found.keys()
            ]  # fmt: skip
            panels[short] = [curve for curve in curves if curve.points]
        (out / f"success_{name}.svg").write_text(draw(panels, f"{name} per decision"))


def main(command: Analyse) -> None:
    raw = command.out / "raw.jsonl.gz"
    if command.runs is not None:
        save(raw, rows(sorted(path for path in command.runs.iterdir() if (path / "episodes.jsonl").exists())))
    found = cells(load(raw))
    results = study(found)
    timed = command.out / "clock.json"
    clock = json.loads(timed.read_text())["milliseconds"] if timed.exists() else {}
    (command.out / "results.json").write_text(json.dumps(results, indent=1, default=vars))
    (command.out / "tables.md").write_text(pages(found, clock, results))
    figures(command.out, found, clock)
    print((command.out / "tables.md").read_text())


if __name__ == "__main__":
    main(tyro.cli(Analyse))
