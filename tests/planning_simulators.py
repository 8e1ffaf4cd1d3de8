"""A bad policy and simulators for worker processes, which import this module alone: nothing heavy in it."""

import os
import signal
from functools import partial
from pathlib import Path

import numpy as np

from volar.core.robot import Actor, Chunk, Observation
from volar.envs import make_env
from volar.planning.proposals import from_policy
from volar.planning.simulation import SimulationConfig, Simulator


class Wrong(Actor):
    """Goes one way, whatever it sees. Its draws differ where `spread` is set."""

    uses_images = False

    def __init__(self, direction=(1.0, 0.0), *, spread: float = 0.0, horizon: int = 4) -> None:
        self.direction, self.spread, self.horizon = direction, spread, horizon
        self.asked = 0

    def reset(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def act(self, observation: Observation) -> Chunk:
        self.asked += 1
        chunk = np.tile(np.array(self.direction), (self.horizon, 1)) + self.spread * self.random.normal(size=(1, 2))
        return Chunk(actions=np.clip(chunk, -1, 1).astype(np.float32), execute=self.horizon)


def make_simulator() -> Simulator:
    config = SimulationConfig(edge=2, rollout=10)
    return Simulator(make_env("toy/reach-red"), Wrong(spread=0.5), partial(from_policy, num=3), config=config)


def mortal_simulator(folder: Path) -> Simulator:
    """The first process that is asked dies in the middle of its work."""
    simulator = make_simulator()

    def propose(draw, random):
        try:
            (folder / "died").touch(exist_ok=False)
        except FileExistsError:
            return from_policy(draw, random, num=3)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    return Simulator(simulator.env, simulator.policy, propose, config=simulator.config)
