"""How well the heads of visual primitives point alone: no decoder, one backbone, equal steps, a virtual camera's marks.

python bench/structure/visual/labels.py --out DATA --parts labelled
volar collect tabletop-state/sort-red-to-purple tabletop-state/sort-green-to-white tabletop-state/sort-blue-to-yellow \
    --out RAW --episodes 15 --first-seed 5000
volar data label RAW --out HELD --cameras top --marks point order regions
python bench/structure/pointing/study.py run --data DATA/labelled --held HELD --out ROWS.jsonl
python bench/structure/pointing/study.py table --rows ROWS.jsonl
"""

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import torch
import tyro

from volar.core.progress import counting
from volar.core.thoughts import Thought
from volar.data.dataset import Dataset
from volar.data.formats import open_dataset
from volar.data.windows import Windows
from volar.policies.config import Option, PolicyConfig
from volar.policies.vla import Policy
from volar.train.config import TrainConfig
from volar.train.demonstrations import new_policy, open_demonstrations, to_batch

HEADS: Mapping[str, Mapping[str, Option]] = {"heatmap": {"head": "heatmap"}, "tokens": {"head": "tokens"}}
DEMONSTRATIONS, SEEDS = 135, (0, 1, 2)  # of each task; the last 15 of all 150 are validation
STEPS, BATCH, RATE = 1000, 64, 3e-3
NEAR = 0.05  # of the picture: within it a mark is on the right thing


def config_of(head: str, seed: int) -> TrainConfig:
    policy = PolicyConfig(
        backbone="state", decoder="regression", horizon=1, normalise_action="min_max",
        normalise_proprioception="mean_std", backbone_options={"width": 64, "depth": 1}, reasoner="visual",
        reasoner_options={**HEADS[head], "inject": "none", "weight": 1.0},
    )  # fmt: skip
    return TrainConfig(policy=policy, steps=STEPS, seed=seed)


def windows(dataset: Dataset, episodes: list[int]) -> Windows:
    return Windows(
        dataset, horizon=1, cameras=(), episodes=episodes, images=False, features=None, thoughts=True
    )  # fmt: skip


def episodes_of(dataset: Dataset, first: int, last: int) -> list[int]:
    """The first-th to last-th episode of every task."""
    by_task: dict[tuple[str, ...], list[int]] = {}
    for episode in range(len(dataset.episodes)):
        by_task.setdefault(dataset.episodes.tasks_of(episode), []).append(episode)
    return [episode for each in by_task.values() for episode in each[first:last]]


def trained(data: Path, head: str, seed: int) -> Policy:
    config = config_of(head, seed)
    parts = open_demonstrations([data], config)
    policy, dataset = new_policy(parts, config), parts[0].dataset
    seen = windows(dataset, episodes_of(dataset, 0, DEMONSTRATIONS))
    policy.fit_reasoner(seen.__getitems__(range(0, len(seen), 50)).thoughts)
    reasoner = policy.reasoner
    assert reasoner is not None
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
    order = np.random.default_rng(seed)
    with counting(f"{head}, seed {seed}", STEPS, shown=True) as done:
        for step in range(STEPS):
            raw = seen.__getitems__(order.integers(len(seen), size=BATCH).tolist())
            batch = to_batch(policy, raw, torch.device("cpu"))
            generator = torch.Generator().manual_seed(step)
            loss = reasoner.learn(batch, policy.backbone.encode, generator=generator).loss.mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done(1)
    return policy.eval()


def errors(policy: Policy, seen: Windows) -> np.ndarray:
    """Distance between what is marked and the label, fractions of the picture; infinite where nothing is marked."""
    raw = seen.__getitems__(range(0, len(seen), 3))
    rows = len(raw.thoughts)
    with torch.no_grad():
        batch = to_batch(policy, raw, torch.device("cpu"))
        made = policy.consider(batch, recalls=[None] * rows, given=[None] * rows).thoughts
    pairs = zip(made, raw.thoughts, strict=True)
    return np.array([_distance(own, label) for own, label in pairs])


def _distance(own: Thought, label: Thought) -> float:
    places = [np.array(thought.marks[0].centre) for thought in (own, label) if thought.marks]
    return float(np.linalg.norm(places[0] - places[1])) if len(places) == 2 else float("inf")


def run(data: Path, held: Path, out: Path) -> None:
    """Go on where it stopped."""
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    there = {(row["head"], row["seed"]) for row in rows}
    dataset = open_dataset(data)
    pairs = {
        "trained": windows(dataset, episodes_of(dataset, DEMONSTRATIONS, 150)),
        "held out": windows(open_dataset(held), list(range(len(open_dataset(held).episodes)))),
    }
    for seed, head in product(SEEDS, HEADS):
        if (head, seed) in there:
            continue
        policy = trained(data, head, seed)
        row: dict[str, object] = {"head": head, "demonstrations": DEMONSTRATIONS, "seed": seed}
        for name, seen in pairs.items():
            found = errors(policy, seen)
            row[name] = {"frames": len(found), "median": round(float(np.median(found)), 4),
                         "near": round(float((found < NEAR).mean()), 4)}  # fmt: skip
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")


def table(rows: Path) -> None:
    """Means over the seeds, and the range of the seeds."""
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    print("| head | trained pairs: median error | near | held-out pairs: median error | near |")
    print("| --- | --- | --- | --- | --- |")
    for head in HEADS:
        found = [line for line in lines if line["head"] == head]
        cells = [
            _cell([line[pairs][key] for line in found])
            for pairs in ("trained", "held out")
            for key in ("median", "near")
        ]
        print(f"| {head} | {' | '.join(cells)} |")


def _cell(values: list[float]) -> str:
    return f"{100 * np.mean(values):.1f} % ({100 * min(values):.1f} to {100 * max(values):.1f})"


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"run": run, "table": table})
