"""A tabletop whose proprioception holds one number more: a lamp that means nothing, and tempts a policy."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from volar.core.robot import Env, Observation, PrivilegedActor, RobotSpec, Step
from volar.envs.tabletop.world import TabletopState

NAME = "lamp"


class Lamp(Env):
    """For judging: the lamp shows -1 or 1 all through an episode, whatever is to be done."""

    privileged = TabletopState.privileged

    def __init__(self, task: str, *, cameras: Mapping[str, int] | None = None) -> None:
        self.table = TabletopState(task, cameras=cameras)
        spec = self.table.spec
        self._spec = replace(spec, proprioception=(*spec.proprioception, NAME))
        self.shows = 0.0

    @staticmethod
    def tasks() -> tuple[str, ...]:
        return TabletopState.tasks()

    @staticmethod
    def instructions(task: str) -> tuple[str, ...]:
        return TabletopState.instructions(task)

    @staticmethod
    def expert() -> PrivilegedActor:
        return TabletopState.expert()

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    @property
    def unwrapped(self) -> Env:
        return self.table.unwrapped

    def reset(self, seed: int) -> None:
        self.table.reset(seed)
        self.shows = float(np.random.default_rng([seed, 0x6C616D70]).choice((-1.0, 1.0)))

    def observe(self, *, images: bool = True) -> Observation:
        seen = self.table.observe(images=images)
        return replace(seen, proprioception=np.append(seen.proprioception, self.shows).astype(np.float32))

    def step(self, action: Float32[np.ndarray, " a"]) -> Step:
        return self.table.step(action)

    def digest(self) -> str:
        return self.table.digest()

    def describe(self) -> dict[str, Any]:
        return self.table.describe()

    def close(self) -> None:
        self.table.close()
