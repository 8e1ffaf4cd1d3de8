"""E5's other half: how far actions jump where one chunk ends and the next begins, and how rough they are inside.

python bench/decoders/jumps.py --out RUN --results docs/results/decoders/jumps.json
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.stats import bootstrap
from study import Maker
from variants import EXECUTE, FIRST_SCENE, MAX_STEPS, PARTS, SEEDS, TASKS

from volar.core.robot import BatchActor, Chunk, Job, Observation
from volar.envs import make_env
from volar.envs.rollout import run_together

CELLS = ("regression", "flow/16", "diffusion/16", "equilibrium/64", "equilibrium/stop-0.5", "equilibrium/warm-0",
         "equilibrium/warm-0.5")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Jumps:
    """Run some scenes again, keeping the actions."""

    out: Path
    results: Path
    scenes: int = 16


@dataclass
class Listener(BatchActor):
    """Passes on what the policy decides and keeps what will be carried out of it, by row."""

    actor: BatchActor
    uses_images: bool = False
    heard: dict[int, list[np.ndarray]] = field(default_factory=dict)

    def reset(self, seed: int) -> None:
        self.actor.reset(seed)

    def act_many(self, rows: Sequence[int], observations: Sequence[Observation]) -> list[Chunk]:
        chunks = self.actor.act_many(rows, observations)
        for row, chunk in zip(rows, chunks, strict=True):
            self.heard.setdefault(row, []).append(chunk.actions[:EXECUTE])
        return chunks


def roughness(chunks: list[np.ndarray]) -> tuple[float, float, float] | None:
    """Mean length of the change of action at boundaries and inside chunks, and of the second difference inside."""
    if len(chunks) < 2:
        return None
    jump = np.mean([np.linalg.norm(b[0] - a[-1]) for a, b in pairwise(chunks)])
    inside = np.mean([np.linalg.norm(np.diff(chunk, axis=0), axis=1).mean() for chunk in chunks])
    bend = np.mean([np.linalg.norm(np.diff(chunk, n=2, axis=0), axis=1).mean() for chunk in chunks])
    return float(jump), float(inside), float(bend)


def interval(values: np.ndarray) -> dict[str, float]:
    """Of the mean, episodes resampled."""
    found = bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=0).confidence_interval
    return {"estimate": float(values.mean()), "low": float(found.low), "high": float(found.high)}


def main(command: Jumps) -> None:
    torch.set_num_threads(1)
    cells = {**PARTS["sweep"](), **PARTS["stops"](), **PARTS["parts"]()}
    maker, rows = Maker(command.out, cells), []
    scenes = range(FIRST_SCENE, FIRST_SCENE + command.scenes)
    for name in CELLS:
        for task in TASKS:
            envs = [make_env(task, cameras={}) for _ in scenes]
            found = []
            for seed in SEEDS:
                actor = maker(f"{name}@{seed}")
                assert isinstance(actor, BatchActor)
                listener = Listener(actor)
                jobs = [Job(task=task, seed=scene, arm=name, max_steps=MAX_STEPS) for scene in scenes]
                run_together(envs, listener, jobs)
                found += [each for row in listener.heard.values() if (each := roughness(row)) is not None]
            figures = np.array(found)
            names = ("jump", "inside", "bend")
            rows.append({"cell": name, "task": task, "episodes": len(found),
                         **{key: interval(figures[:, k]) for k, key in enumerate(names)}})  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
    command.results.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Jumps))
