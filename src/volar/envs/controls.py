"""Control arms: actors that a policy must beat, or that take one of its senses away.

The shuffled instruction is no actor: give the job another `instruction`.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from volar.core.errors import ConfigError
from volar.core.robot import Actor, Chunk, Env, Observation, PrivilegedActor, RobotSpec


class RandomActor(Actor):
    """Actions uniform between the robot's bounds, `execute` per decision."""

    uses_images = False

    def __init__(self, spec: RobotSpec, *, execute: int = 1) -> None:
        if execute < 1:
            raise ConfigError(f"execute must be at least 1, got {execute}.")
        self._action, self._execute = spec.action, execute
        self._random = np.random.default_rng()

    def reset(self, seed: int) -> None:
        # The same seed alone would repeat the very numbers that placed the objects.
        self._random = np.random.default_rng([seed, 0x72616E64])

    def act(self, observation: Observation) -> Chunk:
        size = (self._execute, self._action.dim)
        actions = self._random.uniform(self._action.low, self._action.high, size).astype(np.float32)
        return Chunk(actions=actions, execute=self._execute, evaluations=0)


class OpenLoop(Actor):
    """Given actions [t a] one after the other, whatever is seen; the last one for ever. With the mean of demonstrations
    it is the blind policy: what a task gives to somebody who never looks."""

    uses_images = False

    def __init__(self, actions: Float32[np.ndarray, "t a"]) -> None:
        if not len(actions):
            raise ConfigError("An open loop needs at least one action.")
        self._actions, self._step = actions, 0

    def reset(self, seed: int) -> None:
        self._step = 0

    def act(self, observation: Observation) -> Chunk:
        self._step += 1
        return Chunk(actions=self._actions[[min(self._step, len(self._actions)) - 1]], execute=1, evaluations=0)


class BlankImages(PrivilegedActor):
    """Another actor with black pictures in place of the real ones; instruction and proprioception stay."""

    def __init__(self, actor: Actor) -> None:
        if isinstance(actor, PrivilegedActor) and not actor.uses_images:
            raise ConfigError(f"{type(actor).__name__} reads the simulator, so blanking its pictures shows nothing.")
        self._actor = actor
        self.privileged, self.uses_images = actor.privileged, actor.uses_images

    def reset(self, seed: int) -> None:
        self._actor.reset(seed)

    def bind(self, env: Env) -> None:
        if isinstance(self._actor, PrivilegedActor):
            self._actor.bind(env)

    def act(self, observation: Observation) -> Chunk:
        blank = {name: np.zeros_like(image) for name, image in observation.images.items()}
        return self._actor.act(replace(observation, images=blank))
