"""Does sensor noise hurt through what varies, or through numbers that never varied in training? Policies at level 1 of
the sensor axis, with noise only on the numbers of proprioception whose standard deviation in the data is above FLOOR.

    python bench/robustness/constant_numbers.py CHECKPOINT ... --out docs/results/robustness/constant_numbers.jsonl
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro

from volar.core.robot import Actor, Chunk, Job, Observation
from volar.envs import make_env
from volar.envs.perturbation.sensor import Sensor
from volar.envs.rollout import run_episode
from volar.policies.actor import load_policy
from volar.policies.vla import latest_checkpoint

TASKS = ("tabletop-state/fork", "tabletop-state/pick-place-red")
SEEDS = range(7000, 7012)
FLOOR = 1e-6


@dataclass(frozen=True, kw_only=True)
class Study:
    checkpoints: tyro.conf.Positional[tuple[Path, ...]]
    out: Path


class NoisyWhereItVaries(Actor):
    """`actor` behind the noise of the sensor axis; at level 1 of 20 Hz worlds there is no delay."""

    def __init__(self, actor: Actor, varies: np.ndarray) -> None:
        self._actor, self._varies, self._sensor = actor, varies, Sensor(1)

    def reset(self, seed: int) -> None:
        self._seed = seed
        self._actor.reset(seed)

    def act(self, observation: Observation) -> Chunk:
        step = round(20 * observation.time)
        felt = self._sensor.look(observation, seed=self._seed, step=step).proprioception
        felt = np.where(self._varies, felt, observation.proprioception).astype(np.float32)
        return self._actor.act(replace(observation, proprioception=felt))


def main(study: Study) -> None:
    for path in study.checkpoints:
        folder = latest_checkpoint(path)
        deviations = np.array(json.loads((folder / "stats.json").read_text())["observation.state"]["std"])
        policy = load_policy(str(folder), execute=8)
        for task in TASKS:
            env = make_env(task)
            for noisy, varies in (("varying", deviations > FLOOR), ("all", deviations > -1)):
                actor = NoisyWhereItVaries(policy, varies)
                jobs = [Job(task=task, seed=seed, arm=noisy, max_steps=120) for seed in SEEDS]
                won = sum(bool(run_episode(env, actor, job).success) for job in jobs)
                row = {"policy": path.name, "task": task, "noise_on": noisy, "won": won, "n": len(SEEDS)}
                with study.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            env.close()


if __name__ == "__main__":
    main(tyro.cli(Study))
