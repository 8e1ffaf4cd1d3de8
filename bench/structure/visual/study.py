"""Train every variant with three seeds and run every cell on the same scenes; one process, resumable.

python bench/structure/visual/study.py --data DATA --out RUN [--parts P1 P5]
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from arms import CAMERA, EXECUTE, FIRST_SCENE, PARTS, PICTURE, SEEDS, VARIANTS, Cell, recipe, run_folder
from labels import drawn_way, moved

from volar.core.robot import Actor, Env, Episode, Job
from volar.core.thoughts import Thought
from volar.data.formats import open_dataset
from volar.envs import make_env, make_expert
from volar.envs.rollout import rollout
from volar.envs.tabletop.tasks import sort
from volar.envs.tabletop.world import Tabletop
from volar.policies.actor import load_policy
from volar.policies.guided import Guide, GuidedActor, Moment
from volar.policies.oracle import Oracle, Shuffled
from volar.train.loop import train

TOGETHER = 24  # episodes that one policy acts in at once


@dataclass(frozen=True, kw_only=True)
class Study:
    """Go on where it stopped."""

    data: Path
    out: Path
    parts: tuple[str, ...] = tuple(PARTS)


class Off(Guide):
    """A guide whose pointer is wrong by so many pixels, in one direction throughout an episode."""

    def __init__(self, guide: Guide, pixels: float) -> None:
        self._guide, self._pixels, self.privileged = guide, pixels, guide.privileged

    def reset(self, seed: int) -> None:
        self._guide.reset(seed)
        self._way = drawn_way([seed, 2], self._pixels)

    def bind(self, env: Env) -> None:
        self._guide.bind(env)

    def thought(self, moment: Moment) -> Thought:
        return moved(self._guide.thought(moment), self._way)


def make_actor(study: Study, cell: Cell, seed: int) -> Actor:
    actor = load_policy(run_folder(study.out, cell.variant, seed), execute=EXECUTE)
    if cell.by == "itself":
        return actor
    labels = open_dataset(study.data / VARIANTS[cell.variant].data).facts["labels"]
    oracle = Oracle(make_expert("tabletop-state/sort-red-to-white"), labels)
    guide = Off(oracle, cell.off) if cell.by == "oracle" else Shuffled(oracle)
    return GuidedActor(actor, guide)


@dataclass(frozen=True)
class Places:
    """Where cubes and regions are on the picture at the beginning, fractions [3 2]."""

    cubes: np.ndarray
    regions: np.ndarray


def places(world: Tabletop, scene: int) -> Places:
    world.reset(scene)
    camera = world.calibrations()[CAMERA]
    return Places(cubes=camera.project(world.scene.objects[:, :3]).uv, regions=camera.project(world.scene.goals).uv)


def pointed(episode: Episode, begun: Places) -> dict[str, int | None]:
    """Whether, of what there is, the first mark is nearest to the cube that is meant, and the last to the region; None
    where nothing for the next event is marked."""
    cube, region = sort.MOVES[episode.job.task.partition("/")[2]][0]
    coming = [[mark for mark in thought.marks if mark.role == "next" and not mark.done] for thought in episode.thoughts]
    marks = [found[0].centre for found in coming if found]
    if not marks:
        return {"cube": None, "region": None}
    first = np.linalg.norm(begun.cubes - marks[0], axis=1).argmin()
    last = np.linalg.norm(begun.regions - marks[-1], axis=1).argmin()
    return {"cube": int(first == sort.CUBES.index(cube)), "region": int(last == sort.PLACES.index(region))}


def row(name: str, seed: int, episode: Episode, begun: Places) -> dict[str, Any]:
    """One line of the record. reached, picked: of the cube that is meant. moves: done, of the task's."""
    assert episode.success is not None, f"{episode.job} broke: {episode.error}"
    tracks = episode.tracks
    return {
        "cell": name, "seed": seed, "task": episode.job.task.partition("/")[2], "scene": episode.job.seed,
        "success": int(episode.success), "reached": int(tracks["hand_to_object"].low < 0.04),
        "picked": int(tracks["object_lifted"].high > 0.02), "moves": int(tracks["moves_done"].last),
        "others": int(tracks["others_moved"].high > 0.03), "steps": episode.steps,
        "tokens": sum(thought.tokens for thought in episode.thoughts), **pointed(episode, begun),
    }  # fmt: skip


def run_cell(study: Study, name: str, cell: Cell, seed: int) -> Iterator[dict[str, Any]]:
    jobs = [
        Job(task=f"tabletop-state/{task}", seed=FIRST_SCENE + scene, arm=name, max_steps=cell.max_steps)
        for task, scenes in cell.tasks.items() for scene in range(scenes)
    ]  # fmt: skip
    world = Tabletop(next(iter(cell.tasks)), cameras={})  # all tasks share their scenes
    begun = {job.seed: places(world, job.seed) for job in jobs}
    actor = make_actor(study, cell, seed)
    cameras = {CAMERA: PICTURE} if VARIANTS[cell.variant].sees else {}
    episodes = rollout(jobs, make_env=partial(make_env, cameras=cameras), make_actor=lambda arm: actor, workers=0,
                       together=TOGETHER)  # fmt: skip
    for episode in episodes:
        yield row(name, seed, episode, begun[episode.job.seed])


def main(study: Study) -> None:
    torch.set_num_threads(1)
    raw = study.out / "raw.jsonl"
    study.out.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in raw.read_text().splitlines()] if raw.exists() else []
    there = {(line["cell"], line["seed"]) for line in lines}  # written at once, so that none is half there
    for part in study.parts:
        for seed in SEEDS:
            for name, cell in PARTS[part].items():
                if (name, seed) in there:
                    continue
                started, folder = time.perf_counter(), run_folder(study.out, cell.variant, seed)
                if not (folder / "checkpoints").exists():
                    data = study.data / VARIANTS[cell.variant].data
                    train(recipe(cell.variant, seed), data, folder, device="cpu", progress=False)
                found = list(run_cell(study, name, cell, seed))
                with raw.open("a") as file:
                    file.write("".join(json.dumps(line) + "\n" for line in found))
                rate = np.mean([line["success"] for line in found])
                print(f"{name}@{seed}: {rate:.2f} in {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Study))
