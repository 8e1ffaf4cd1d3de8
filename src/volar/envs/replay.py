"""A recorded episode once more in its simulator, which then says what the recording does not: what stood where.

Only where the world comes out exactly as it was recorded; anything else is refused, never approximated.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from volar.core.calibration import CalibratedWorld, Calibration
from volar.core.errors import ConfigError
from volar.core.objects import NamedObject, NamingWorld
from volar.core.robot import Env
from volar.envs import make_env
from volar.envs.task_names import parse_task

SAME = 1e-5  # in the units of the proprioception; recordings are float32


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a recording holds of an episode. executed: float32 [t a], noise included; proprioception: before each."""

    task: str
    seed: int
    executed: Float32[np.ndarray, "t a"]
    proprioception: Float32[np.ndarray, "t p"]


class Replay:
    """Worlds for replaying, one at a time. Use as a context manager."""

    def __init__(self) -> None:
        self._task: str | None = None
        self._env: Env | None = None

    def __enter__(self) -> "Replay":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._env is not None:
            self._env.close()

    def objects(self, recorded: Recorded) -> tuple[Mapping[str, NamedObject], ...]:
        """What stood where before every action. Raises ConfigError where the world names nothing, or goes another way
        than it was recorded to go."""
        env = self._world(recorded.task)
        world = env.unwrapped
        if not isinstance(world, NamingWorld):
            raise ConfigError(f"{type(world).__name__} does not name its objects, so a replay says nothing of them.")
        return tuple(dict(world.named_objects()) for _ in _steps(env, recorded))

    def calibrations(self, task: str) -> Mapping[str, Calibration]:
        """Of the cameras of a task's world. Raises ConfigError where it does not know them."""
        if parse_task(task).levels:
            raise ConfigError(f"In {task} the cameras may stand elsewhere in every episode; no calibration holds.")
        world = self._world(task).unwrapped
        if not isinstance(world, CalibratedWorld):
            raise ConfigError(f"{type(world).__name__} does not know its cameras; give --calibration FILE.")
        return world.calibrations()

    def _world(self, task: str) -> Env:
        if self._env is None or self._task != task:
            if self._env is not None:
                self._env.close()
            self._task, self._env = task, make_env(task, cameras={})
        return self._env


def _steps(env: Env, recorded: Recorded) -> Iterator[int]:
    """Leaves the world before every action in turn."""
    env.reset(recorded.seed)
    for step, (action, seen) in enumerate(zip(recorded.executed, recorded.proprioception, strict=True)):
        now = env.observe(images=False).proprioception
        if now.shape != seen.shape or np.abs(now - seen).max() > SAME:
            raise ConfigError(
                f"{recorded.task}, seed {recorded.seed}: replayed, step {step} is not what was recorded. The simulator "
                f"is another version, or the recording is no rollout from its seed; label it without the simulator."
            )
        yield step
        env.step(action)
