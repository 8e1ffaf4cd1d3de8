"""A scripted expert for LIBERO tasks: it reads the simulator's state."""

from volar.core.errors import ConfigError
from volar.core.robot import Chunk, Env, Observation, PrivilegedActor


class LiberoExpert(PrivilegedActor):
    """x"""

    privileged = ("simulator state: poses and shapes of all things",)

    def reset(self, seed: int) -> None:
        pass

    def bind(self, env: Env) -> None:
        self._env = env

    def act(self, observation: Observation) -> Chunk:
        raise ConfigError("not yet")
