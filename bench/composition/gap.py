"""Imagined against executed: what the fields say of a composed chunk, and whether the episode then succeeds.

PYTHONPATH=bench/composition python bench/composition/gap.py --policies RUN/train --out gap.jsonl [--scenes 30]
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from cells import MAX_STEPS, SEEDS, TASKS, Cell, energies
from study import compose

from volar.core.model import FieldDecoder
from volar.core.robot import Actor, Chunk, Job, Observation
from volar.envs import make_env
from volar.envs.rollout import run_episode
from volar.planning.compose import residuals
from volar.planning.composed import ComposedActor

FIRST_SCENE = 40_000
NAMES = ("equilibrium/convex", "equilibrium/and")


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Episodes that are in OUT already are not run again."""

    policies: Path
    out: Path
    scenes: int = 30


class Watched(Actor):
    """Also reads every member's own field where the composed one came to rest; those evaluations are not the arm's."""

    uses_images = False

    def __init__(self, actor: ComposedActor) -> None:
        self.actor = actor
        self.members: list[list[float]] = []

    def reset(self, seed: int) -> None:
        self.actor.reset(seed)
        self.members = []

    def act(self, observation: Observation) -> Chunk:
        chunk = self.actor.act(observation)
        with torch.inference_mode():
            fields = []
            for member, batch in zip(self.actor.members, self.actor.batches([observation]), strict=True):
                assert isinstance(member.policy.decoder, FieldDecoder)
                fields.append(partial(member.policy.decoder.field, member.policy.backbone.encode(batch)))
            own = self.actor.members[0].normalizers.action.normalize(chunk.actions)
            self.members.append(residuals(fields, torch.from_numpy(own)[None])[:, 0].tolist())
        return chunk


def episodes(command: Gap, name: str, cell: Cell, seed: int, known: set[tuple]) -> None:
    actor = Watched(compose(command.policies, cell, seed))
    for task in TASKS:
        env = make_env(cell.task(task), cameras={})
        for scene in range(FIRST_SCENE, FIRST_SCENE + command.scenes):
            if (name, seed, task, scene) in known:
                continue
            episode = run_episode(env, actor, Job(task=task, seed=scene, arm=name, max_steps=MAX_STEPS))
            row = {
                "cell": name, "seed": seed, "task": task, "scene": scene, "success": bool(episode.success),
                "composed": float(np.mean(episode.strangeness)),
                "members": np.mean(actor.members, axis=0).tolist(),
            }  # fmt: skip
            with command.out.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
        env.close()


def main(command: Gap) -> None:
    rows = [json.loads(line) for line in command.out.read_text().splitlines()] if command.out.exists() else []
    known = {(row["cell"], row["seed"], row["task"], row["scene"]) for row in rows}
    cells = energies()
    for seed in SEEDS:
        for name in NAMES:
            episodes(command, name, cells[name], seed, known)


if __name__ == "__main__":
    main(tyro.cli(Gap))
