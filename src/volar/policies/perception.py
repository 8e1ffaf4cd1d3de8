"""Who says what stands where, for policies that go by the names of things."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from volar.core.errors import ConfigError
from volar.core.objects import NamedObject, NamingWorld
from volar.core.robot import Env, Observation


class Perception(ABC):
    """privileged: what it uses that a robot would not have."""

    privileged: tuple[str, ...] = ()
    uses_images: bool = True

    def bind(self, env: Env) -> None:  # noqa: B027, for those that look at pictures only
        """Called at the beginning of an episode."""

    @abstractmethod
    def objects(self, observation: Observation) -> Mapping[str, NamedObject]: ...


class SimulatorPerception(Perception):
    """The simulator's own word."""

    privileged = ("simulator state: names, places and sizes of objects",)
    uses_images = False

    def bind(self, env: Env) -> None:
        self._world = naming_world(env)

    def objects(self, observation: Observation) -> Mapping[str, NamedObject]:
        return self._world.named_objects()


def naming_world(env: Env) -> NamingWorld:
    """The world behind `env`. Raises ConfigError where it names nothing."""
    world = env.unwrapped
    if not isinstance(world, NamingWorld):
        raise ConfigError(f"{type(world).__name__} does not name its objects, so language cannot refer to them.")
    return world
