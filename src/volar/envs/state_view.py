"""An environment seen through its simulator's state: object poses and goal in proprioception, and pictures only where
they are asked for, so that a policy with eyes and one without can act in the same world.

For studies in which pixels add nothing but cost. What it shows no real robot has, and every episode's record says so.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from volar.core.evidence import Signs
from volar.core.robot import Env, Observation, PrivilegedActor, RestorableEnv, RobotSpec, Step


class WorldWithObjects(RestorableEnv):
    """An Env that can tell where its objects are."""

    @property
    @abstractmethod
    def object_state_names(self) -> tuple[str, ...]:
        """One word per number of `object_state`, the same for all tasks of a family."""

    @property
    @abstractmethod
    def object_state(self) -> Float32[np.ndarray, " n"]:
        """Poses of objects and goal, zeros for those that the task does not have."""


class StateView(RestorableEnv):
    """Abstract: a member names the environment behind it in `world_class`. Proprioception = the robot's own numbers,
    then `object_state`. cameras: None shows no pictures, unlike in the environment behind it."""

    world_class: ClassVar[Any]
    privileged = ("simulator state: object and goal poses in place of pictures",)

    def __init__(self, task: str, *, cameras: Mapping[str, int] | None = None) -> None:
        self.world: WorldWithObjects = self.world_class(task, cameras=cameras or {})
        if cameras:
            self.privileged = ("simulator state: object and goal poses beside pictures",)
        spec = self.world.spec
        self._spec = replace(spec, proprioception=(*spec.proprioception, *self.world.object_state_names))

    @classmethod
    def tasks(cls) -> tuple[str, ...]:
        return cls.world_class.tasks()

    @classmethod
    def shared_scenes(cls) -> tuple[tuple[str, ...], ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return cls.world_class.shared_scenes()

    @classmethod
    def instructions(cls, task: str) -> tuple[str, ...]:
        return cls.world_class.instructions(task)

    @classmethod
    def expert(cls) -> PrivilegedActor:
        return cls.world_class.expert()

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    @property
    def unwrapped(self) -> Env:
        return self.world.unwrapped

    def reset(self, seed: int) -> None:
        self.world.reset(seed)

    def observe(self, *, images: bool = True) -> Observation:
        seen = self.world.observe(images=images)
        return replace(seen, proprioception=np.concatenate([seen.proprioception, self.world.object_state]))

    def step(self, action: Float32[np.ndarray, " a"]) -> Step:
        return self.world.step(action)

    def measure(self) -> Mapping[str, float]:
        return self.world.measure()

    def signs(self) -> Signs:
        return self.world.signs()

    def save(self) -> bytes:
        return self.world.save()

    def restore(self, state: bytes) -> None:
        self.world.restore(state)

    def digest(self) -> str:
        return self.world.digest()

    def describe(self) -> dict[str, Any]:
        return {**self.world.describe(), "privileged": list(self.privileged)}

    def close(self) -> None:
        self.world.close()
