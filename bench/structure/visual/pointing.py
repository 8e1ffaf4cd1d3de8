"""How far the first mark of a trained policy is from the cube that is meant, in pixels of the study's picture.

python bench/structure/visual/pointing.py --runs RUN --out docs/results/structure/visual/pointing.json
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from arms import CAMERA, EXECUTE, FIRST_SCENE, PAIRS, PIXELS, SEEDS, VARIANTS, run_folder

from volar.envs import make_env
from volar.envs.tabletop.tasks import sort
from volar.envs.tabletop.world import Tabletop
from volar.policies.actor import PolicyActor, load_policy


@dataclass(frozen=True, kw_only=True)
class Pointing:
    """Write median and 90th percentile over the trainings of every variant, on trained and on held-out pairs."""

    runs: Path
    out: Path
    variants: tuple[str, ...] = ("point", "auxiliary", "bottleneck")


def distances(actor: PolicyActor, task: str, scenes: int) -> list[float]:
    """Pixels, one for each scene."""
    env = make_env(f"tabletop-state/{task}")
    world, cube = env.unwrapped, sort.CUBES.index(sort.MOVES[task][0][0])
    assert isinstance(world, Tabletop)
    camera, found = world.calibrations()[CAMERA], []
    for scene in range(FIRST_SCENE, FIRST_SCENE + scenes):
        env.reset(scene)
        actor.reset(scene)
        thought = actor.act(env.observe(images=False)).thought
        assert thought is not None
        there = camera.project(world.scene.objects[cube, None, :3]).uv[0]
        found += [PIXELS * float(np.linalg.norm(np.subtract(mark.centre, there))) for mark in thought.marks]
    return found


def main(command: Pointing) -> None:
    torch.set_num_threads(1)
    results = {}
    for variant in command.variants:
        assert VARIANTS[variant].reasoner is not None
        actors = [load_policy(run_folder(command.runs, variant, seed), execute=EXECUTE) for seed in SEEDS]
        for group, tasks in (("trained pairs", sort.TRAINED), ("held-out pairs", sort.HELD_OUT)):
            found = [away for actor in actors for task in tasks for away in distances(actor, task, PAIRS[task])]
            median, most = np.quantile(found, [0.5, 0.9]).round(1).tolist()
            results.setdefault(variant, {})[group] = {"median": median, "nine in ten": most, "marks": len(found)}
    command.out.parent.mkdir(parents=True, exist_ok=True)
    command.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Pointing))
