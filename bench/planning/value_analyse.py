"""What the study of learned values found: searches against one another (V2, V4), and how well heads tell the branches
of one state apart (V3). Writes one JSON file and the rows that it was made of.

python bench/planning/value_analyse.py --policies RUN/train --out OUT --to docs/results/planning
"""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from cells import FIRST_SCENE, SEEDS
from value_study import EXECUTE, FAST, HEADS, TASKS, Places

from volar.data.formats import open_dataset
from volar.planning.value_config import ValueConfig
from volar.planning.value_examples import Examples, gather
from volar.planning.value_head import load_value
from volar.planning.value_training import fit, foretold
from volar.policies.actor import load_policy
from volar.statistics.auc import area_under_curve
from volar.statistics.bootstrap import hierarchical_difference

BUDGETS = (4, 12, 32)  # simulations: below, above and well above the number of candidates
MOMENTS = (0.25, 0.5, 1.0)  # seconds of processor time
PROPOSALS = ("policy", "around")
RESAMPLES = 500
WHERE = ("mse", "oracle")
Row = dict[str, Any]
Node = list[Row]


@dataclass(frozen=True, kw_only=True)
class Analyse(Places):
    """Analyse what the study has recorded so far."""

    to: Path


def searches(rows: Sequence[Row]) -> dict[str, Any]:
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    complete = [
        scene for scene in sorted({row["scene"] for row in rows})
        if sum(row["scene"] == scene for row in rows) == len(arms) * len(SEEDS) * len(TASKS)
    ]  # fmt: skip

    def table(arm: str, measure: Callable[[Row], float]) -> np.ndarray:
        """[trainings tasks scenes]"""
        found = {(row["training"], row["task"], row["scene"]): measure(row) for row in rows if row["arm"] == arm}
        return np.array([[[found[seed, task, scene] for scene in complete] for task in TASKS] for seed in SEEDS])

    def by_budget(budget: float, key: str) -> Callable[[Row], float]:
        return lambda row: float(row["solved"] and row[key] <= budget)

    counted, timed = [arm for arm in arms if "timed" not in arm], [arm for arm in arms if "timed" in arm]
    content: dict[str, Any] = {"scenes": len(complete), "paired": len(complete) * len(TASKS) * len(SEEDS), "arms": {}}
    for arm in arms:
        key, limits = ("seconds", MOMENTS) if arm in timed else ("simulations", BUDGETS)
        reference = "timed search" if arm in timed else "around: search" if arm.startswith("around") else "search"
        rates = {limit: table(arm, by_budget(limit, key)) for limit in limits}
        others = {limit: table(reference, by_budget(limit, key)) for limit in limits}
        entry: dict[str, Any] = {
            "success": {limit: {"mean": float(rates[limit].mean()),
                                **dict(zip(TASKS, rates[limit].mean((0, 2)).tolist(), strict=True))}
                        for limit in limits},
            "means": {name: float(table(arm, lambda row, name=name: row[name]).mean())
                      for name in ("simulations", "steps", "checks", "evaluations", "seconds", "depth")},
        }  # fmt: skip
        if arm != reference:
            entry["against"] = reference
            entry["difference"] = {limit: _interval(rates[limit], others[limit]) for limit in limits}
            grown, before = rates[limits[-1]] - rates[limits[0]], others[limits[-1]] - others[limits[0]]
            entry["interaction"] = _interval(grown, before)
        if arm in counted and arm != reference:
            spent, theirs = (table(name, lambda row: row["simulations"]) for name in (arm, reference))
            entry["simulations_difference"] = _interval(spent, theirs)
        content["arms"][arm] = entry
    return content


def _interval(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Of the mean paired difference; both arms run the very same trained policies, so trainings are drawn together."""
    largest = max(float(np.abs(first - second).max()), 1.0)
    nothing = np.zeros((1, *first.shape[1:]))
    found = hierarchical_difference((first - second) / largest, nothing, seed=0, resamples=4 * RESAMPLES)
    return {name: value * largest for name, value in asdict(found).items()}


def branch_rows(command: Analyse, seed: int, proposals: str) -> list[Row]:
    """Every recorded branch with what each head says of it. None of its scenes was learned from."""
    policy, root = command.policy(seed), command.out / f"branches-{proposals}-{seed}"
    actor, config = load_policy(policy, execute=EXECUTE), replace(FAST, policy=policy, seed=seed)
    examples = gather([root], actor, config, progress=False)
    values = {}
    for name, chosen in HEADS.items():
        head = load_value(command.out / "heads" / f"{name}-{seed}", actor, policy=policy).head
        values[name] = foretold(head, examples, chosen)
    values["ranking"] = _crossed(examples, replace(config, target="ranking"))
    rows = []
    for number, episode in enumerate(open_dataset(root).episodes):
        source = episode.source
        ended = [0.0 if left is None else config.discount**left for left in source["steps_to_success"]]
        values_here = {name: round(float(each[number]), 5) for name, each in values.items()}
        rows.append({
            "training": seed, "proposals": proposals, "task": source["task"], "scene": source["seed"],
            "step": source["step"], "candidate": source["candidate"], "own": source["own"],
            "solved": source["success"], "return": ended[0],
            "values": {**values_here, "oracle": float(np.mean(ended[1:]))},
        })  # fmt: skip
    return rows


def _crossed(examples: Examples, config: ValueConfig) -> np.ndarray:
    """Learned on the branches of every other scene, said of the rest."""
    values = np.zeros(len(examples))
    for fold in (0, 1):
        mine = examples.scenes % 2 == fold
        values[mine] = foretold(fit(examples.rows(~mine), config, progress=False), examples.rows(mine), config)
    return values


def nodes_of(rows: Sequence[Row]) -> list[Node]:
    """Branches of one state together."""
    found: dict[tuple[Any, ...], Node] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in ("training", "proposals", "task", "scene", "step")), []).append(row)
    return list(found.values())


def undecided(nodes: Sequence[Node]) -> list[Node]:
    """Those where some branches solved the task and others did not."""
    return [node for node in nodes if len({row["solved"] for row in node}) == 2]


def over_all(nodes: Sequence[Node], head: str) -> float:
    """Area under the curve for success, all states together."""
    good, bad = (
        np.array([row["values"][head] for node in nodes for row in node if row["solved"] is kind])
        for kind in (True, False)
    )
    return area_under_curve(good, bad) if len(good) and len(bad) else float("nan")


def among_siblings(nodes: Sequence[Node], head: str) -> float:
    """Share of pairs of siblings, one of which solved the task, that the head puts in the right order."""
    right = pairs = 0.0
    for node in undecided(nodes):
        good, bad = ([row["values"][head] for row in node if row["solved"] is kind] for kind in (True, False))
        right += area_under_curve(np.array(good), np.array(bad)) * len(good) * len(bad)
        pairs += len(good) * len(bad)
    return right / pairs if pairs else float("nan")


def picked(nodes: Sequence[Node], head: str) -> float:
    """How much oftener the child of the highest value solved the task than a child drawn at random, where it matters
    which one is taken."""
    gains = []
    for node in undecided(nodes):
        best = max(row["values"][head] for row in node)
        solved = [row["solved"] for row in node]
        gains.append(np.mean([row["solved"] for row in node if row["values"][head] == best]) - np.mean(solved))
    return float(np.mean(gains)) if gains else float("nan")


def gap_slope(nodes: Sequence[Node], head: str) -> float:
    """Slope of a logistic regression: did the best child solve the task, on the gap between the best two values in
    deviations of the gap. 0 where the head's certainty says nothing."""
    some = undecided(nodes)
    gaps = np.array([np.diff(np.sort([row["values"][head] for row in node])[-2:])[0] for node in some])
    won = np.array([max(node, key=lambda row: row["values"][head])["solved"] for node in some], dtype=float)
    if len(some) < 10 or gaps.std() == 0 or won.std() == 0:
        return float("nan")
    inputs, weights = np.stack([np.ones(len(gaps)), (gaps - gaps.mean()) / gaps.std()], axis=1), np.zeros(2)
    for _ in range(50):  # Newton's method, held back a little so that separated resamples stay finite
        chance = 1 / (1 + np.exp(-inputs @ weights))
        curvature = inputs.T @ (inputs * (chance * (1 - chance))[:, None]) + 0.01 * np.eye(2)
        weights += np.linalg.solve(curvature, inputs.T @ (won - chance) - 0.01 * weights)
    return float(weights[1])


def resampled(
    nodes: Sequence[Node], statistic: Callable[[Sequence[Node], str], float], head: str
) -> dict[str, float] | None:  # fmt: skip
    """With percentile limits from drawing trainings and scenes anew; None where the statistic has no value."""
    random, cells = np.random.default_rng(0), {}
    for node in nodes:
        cells.setdefault(cell_of(node), []).append(node)
    places = sorted({cell[1:] for cell in cells})
    draws = []
    for _ in range(RESAMPLES):
        trainings = random.choice(SEEDS, len(SEEDS)).tolist()
        drawn = [places[index] for index in random.integers(0, len(places), len(places))]
        draws.append(
            statistic([node for seed in trainings for place in drawn for node in cells.get((seed, *place), [])], head)
        )
    if not np.isfinite(estimate := statistic(nodes, head)):
        return None
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return {"estimate": estimate, "low": float(low), "high": float(high)}


def cell_of(node: Node) -> tuple[int, str, int]:
    return node[0]["training"], node[0]["task"], node[0]["scene"]


def siblings(rows: Sequence[Row]) -> dict[str, Any]:
    """Of one kind of proposals."""
    nodes = nodes_of(rows)
    statistics = {"all_states": over_all, "siblings": among_siblings, "picked": picked, "gap_slope": gap_slope}
    heads = {
        head: {name: resampled(nodes, statistic, head) for name, statistic in statistics.items()}
        for head in rows[0]["values"]
    }
    # The policy's own branch at the first step is its own episode.
    own = {cell_of([row]): row["solved"] for row in rows if row["own"] and row["step"] == 0}
    groups = {
        **{name: [node for node in nodes if node[0]["task"] == task] for name, task in TASKS.items()},
        "policy solves it": [node for node in nodes if own.get(cell_of(node)) is True],
        "policy fails": [node for node in nodes if own.get(cell_of(node)) is False],
        "steps 0 to 23": [node for node in nodes if node[0]["step"] < 24],
        "steps 24 to 71": [node for node in nodes if 24 <= node[0]["step"] < 72],
        "steps 72 and later": [node for node in nodes if node[0]["step"] >= 72],
    }
    where = {
        name: {"states": len(undecided(some)), **{head: resampled(some, among_siblings, head) for head in WHERE}}
        for name, some in groups.items() if undecided(some)
    }  # fmt: skip
    spread = {head: float(np.mean([np.std([row["values"][head] for row in node]) for node in nodes])) for head in WHERE}
    return {
        "branches": len(rows), "states": len(nodes), "undecided": len(undecided(nodes)),
        "spread_among_siblings": spread,
        "spread_over_all": {head: float(np.std([row["values"][head] for row in rows])) for head in WHERE},
        "heads": heads, "where": where,
    }  # fmt: skip


if __name__ == "__main__":
    command = tyro.cli(Analyse)
    searched = [json.loads(line) for line in (command.out / "searches.jsonl").read_text().splitlines()]
    branched = [row for seed in SEEDS for kind in PROPOSALS for row in branch_rows(command, seed, kind)]
    result = {
        "fingerprint": json.loads((command.out / "fingerprint.json").read_text()), "first_scene": FIRST_SCENE,
        "searches": searches(searched),
        "siblings": {kind: siblings([row for row in branched if row["proposals"] == kind]) for kind in PROPOSALS},
    }  # fmt: skip
    command.to.mkdir(parents=True, exist_ok=True)
    (command.to / "values.json").write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    for name, rows in (("values_searches", searched), ("values_branches", branched)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (command.to / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
