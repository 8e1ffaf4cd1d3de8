"""The curation study: plant defects, score the episodes, and train on what a score keeps. Resumable, one core.

OMP_NUM_THREADS=1 python bench/curation/study.py score --out RUN          # data, base policies, rollouts, all scores
OMP_NUM_THREADS=1 python bench/curation/study.py compare --out RUN --defect wrong_goal --score predictability
python bench/curation/study.py tables --out RUN --results docs/results/curation
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from defects import DEFECTS, record, task_of
from recipe import recipe

from volar.cli.compare import Compare, run_compare
from volar.cli.data_rollouts import Rollouts, record_rollouts
from volar.data.curation.scores import Evidence
from volar.data.curation.select import keep_top
from volar.data.dataset import Dataset
from volar.data.formats import open_dataset
from volar.statistics.auc import Ranked, mean_area
from volar.train.curation import TABLE
from volar.train.loop import train

SEEDS = (0, 1, 2)
ALONE = ("chance", "brevity", "smoothness", "low_jerk", "path_efficiency", "busyness", "novelty", "deminf",
         "predictability")  # fmt: skip
WITH_POLICY = ("rollout_success", "influence")
HAND = ("hand_x", "hand_y", "hand_z")
EXECUTE, ROLLOUTS, ROLLOUT_STEPS = 4, 24, 60
KEEP = 2 / 3  # as many as are clean


@dataclass(frozen=True, kw_only=True)
class Score:
    """Record, train base policies, run them, and score; what is there already is not done again."""

    out: Path
    defects: tuple[str, ...] = DEFECTS
    seeds: tuple[int, ...] = SEEDS
    scores: tuple[str, ...] = (*ALONE, *WITH_POLICY)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Train on all episodes, on those that a score keeps, on a random choice as large, and on the clean ones."""

    out: Path
    defect: str
    score: str
    seed: int = 0
    episodes: int = 60


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Areas under the curve of every score and defect, with intervals, as JSON and Markdown."""

    out: Path
    results: Path


def place(out: Path, defect: str, seed: int) -> Path:
    return out / f"{defect}-{seed}"


def dataset_of(out: Path, defect: str, seed: int) -> Dataset:
    folder = place(out, defect, seed) / "data"
    if not folder.exists():
        record(folder, defect, seed)
    return open_dataset(folder)


def evidence_of(out: Path, defect: str, seed: int, *, policy: bool) -> Evidence:
    """With a base policy that was trained on everything, and what it did, where asked for."""
    if not policy:
        return Evidence(seed=seed, dimensions=HAND)
    folder = place(out, defect, seed)
    train(recipe(), folder / "data", folder / "policy", device="cpu", progress=False)
    command = Rollouts(
        policy=folder / "policy", tasks=(task_of(defect),), out=folder / "rollouts", execute=EXECUTE, episodes=ROLLOUTS,
        max_steps=ROLLOUT_STEPS, workers=0,
    )  # fmt: skip
    record_rollouts(command, progress=False)
    rollouts = open_dataset(folder / "rollouts")
    return Evidence(seed=seed, dimensions=HAND, policy=folder / "policy", rollouts=rollouts)


def score(command: Score) -> None:
    for seed in command.seeds:
        for defect in command.defects:
            path = place(command.out, defect, seed) / "scores.json"
            known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"scores": {}, "notes": {}}
            dataset = dataset_of(command.out, defect, seed)
            due = [name for name in command.scores if name not in known["scores"]]
            if not due:
                continue
            evidence = evidence_of(command.out, defect, seed, policy=any(name not in ALONE for name in due))
            known["planted"] = [bool(episode.source["planted"]) for episode in dataset.episodes]
            known["lengths"] = [episode.length for episode in dataset.episodes]
            for name in due:
                found = TABLE.load(name)(dataset, evidence)
                known["scores"][name], known["notes"][name] = found.episodes.tolist(), found.note
                path.write_text(json.dumps(known))
            print(f"{defect} {seed}: {', '.join(due)}", flush=True)


def compare(command: Comparison) -> None:
    folder = place(command.out, command.defect, command.seed)
    known = json.loads((folder / "scores.json").read_text())
    planted = np.array(known["planted"])
    everything = np.zeros(len(planted), dtype=np.int64)
    ranked = keep_top(np.array(known["scores"][command.score]), everything, KEEP)
    random = keep_top(np.array(known["scores"]["chance"]), everything, KEEP)
    kept = {"kept": ranked, "random": random, "oracle": ~planted}
    settings = []
    for arm, chosen in kept.items():
        path = folder / f"{arm}-{command.score}.json"
        path.write_text(json.dumps(np.flatnonzero(chosen).tolist()))
        settings.append(f"{arm}.episodes={path}")
        print(f"{arm}: {chosen.sum()} episodes, {(chosen & planted).sum()} of them planted", flush=True)
    where = Path(__file__).with_name("recipe.py")
    run_compare(Compare(
        sources=tuple(f"{arm}={where}" for arm in ("all", *kept)), set=tuple(settings), data=folder / "data",
        out=folder / f"compare-{command.score}", tasks=(task_of(command.defect),), training_seeds=SEEDS,
        match="none", episodes=command.episodes, first_seed=1000, max_steps=ROLLOUT_STEPS, execute=(str(EXECUTE),),
        design="fixed", controls=(), films=0, device="cpu", workers=1,
        question=f"Does training on what {command.score} keeps help? Defect: {command.defect}",
    ))  # fmt: skip


def tables(command: Tables) -> None:
    raw = {path.parent.name: json.loads(path.read_text()) for path in sorted(command.out.glob("*/scores.json"))}
    names = [name for name in TABLE if any(name in found["scores"] for found in raw.values())]
    areas = {name: {defect: area for defect in DEFECTS if (area := _area(raw, name, defect))} for name in names}
    command.results.mkdir(parents=True, exist_ok=True)
    (command.results / "areas.json").write_text(json.dumps(areas, indent=1) + "\n")
    (command.results / "scores.json").write_text(json.dumps(_rounded(raw)) + "\n")
    compared = {
        path.parent.parent.name: _compared(path) for path in sorted(command.out.glob("*/compare-*/result.json"))
    }
    (command.results / "compared.json").write_text(json.dumps(compared, indent=1) + "\n")
    for key in ("area", "alike"):
        print(f"\n{key}\n\n| score | {' | '.join(DEFECTS)} |\n| --- |{' --- |' * len(DEFECTS)}")
        for name, row in areas.items():
            print(f"| {name} | {' | '.join(_cell(row.get(defect), key) for defect in DEFECTS)} |")


def _compared(path: Path) -> dict[str, Any]:
    """Of a comparison's result what its page says first, and the successes of every training."""
    result = json.loads(path.read_text())
    kept = ("reference", "other", "registered", "standing", "interval", "recipes", "p", "adjusted_p", "wins", "losses")
    return {
        "comparison": path.parent.name,
        "registration": result["registration"]["sha256"],
        "code_version": result["registration"]["protocol"]["code_version"],
        "verdict": result["verdict"],
        "successes": {
            member["name"]: [sum(task[key] for task in member["tasks"].values()) for key in ("successes", "scored")]
            for arm in result["arms"] for member in arm["members"]
        },
        "pairs": [{key: pair[key] for key in kept} for pair in result["pairs"]],
    }  # fmt: skip


def _cell(area: dict | None, key: str) -> str:
    if area is None or area[key] is None:
        return "-"
    if key == "alike":
        return f"{area['alike']:.2f} ({area['alike_pairs']})"
    sets = f", {area['sets']} set{'s' * (area['sets'] > 1)}" * (area["sets"] < len(SEEDS))
    return f"{area['area']:.2f} ({area['low']:.2f} to {area['high']:.2f}{sets})"


def _area(raw: dict, name: str, defect: str) -> dict | None:
    found = [known for key, known in raw.items() if key.rpartition("-")[0] == defect and name in known["scores"]]
    if not found:
        return None
    ranked = []
    for known in found:
        scores, planted = np.array(known["scores"][name]), np.array(known["planted"])
        ranked.append(Ranked(good=scores[~planted], bad=scores[planted]))
    area = mean_area(ranked, seed=0)
    alike = np.concatenate([_alike(known, name) for known in found])
    return {
        "area": round(area.estimate, 4), "low": round(area.low, 4), "high": round(area.high, 4), "sets": len(found),
        "alike": round(float(alike.mean()), 4) if len(alike) else None, "alike_pairs": len(alike),
    }  # fmt: skip


def _alike(known: dict, name: str) -> np.ndarray:
    """Of every clean and planted episode whose lengths differ by at most a tenth: 1 where the clean one scores higher,
    0.5 where both score the same. What a score finds beyond length."""
    scores, planted, lengths = np.array(known["scores"][name]), np.array(known["planted"]), np.array(known["lengths"])
    good, bad = np.flatnonzero(~planted)[:, None], np.flatnonzero(planted)
    similar = np.abs(lengths[good] - lengths[bad]) <= 0.1 * np.minimum(lengths[good], lengths[bad])
    return ((scores[good] > scores[bad]) + 0.5 * (scores[good] == scores[bad]))[similar]


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    chosen = tyro.cli(
        Annotated[Score, tyro.conf.subcommand("score")]  # type: ignore[arg-type]
        | Annotated[Comparison, tyro.conf.subcommand("compare")]
        | Annotated[Tables, tyro.conf.subcommand("tables")]
    )
    {Score: score, Comparison: compare, Tables: tables}[type(chosen)](chosen)
