"""What a task's name says: `environment/task`, and after an @ how its world is perturbed. Builds nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from volar.core.errors import ConfigError
from volar.envs.perturbation import LEVELS, TABLE


@dataclass(frozen=True, kw_only=True)
class TaskName:
    """task: as the environment names it. levels: axis -> 1 to 5, empty for the task itself."""

    environment: str
    task: str
    levels: Mapping[str, int] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """The task without its perturbations: `environment/task`."""
        return f"{self.environment}/{self.task}"


def parse_task(name: str) -> TaskName:
    """`metaworld/push@camera=2,light=1` in its parts. Raises ConfigError for a name without environment, an unknown
    axis and a level that does not exist, each with what would."""
    environment, slash, rest = name.partition("/")
    if not slash:
        raise ConfigError(f"A task is written 'environment/task', for example 'metaworld/faucet-open'; got {name!r}.")
    task, at, words = rest.partition("@")
    levels: dict[str, int] = {}
    for word in words.split(",") if at else ():
        axis, equals, level = word.partition("=")
        if not equals:
            raise ConfigError(
                f"A perturbation is written axis=level, for example {rest.partition('@')[0]}@camera=3; got {word!r} "
                f"in {name!r}. Axes: {', '.join(TABLE)}."
            )
        TABLE[axis]  # raises for an axis that does not exist
        if level not in map(str, LEVELS):
            raise ConfigError(
                f"Levels of {axis} are {LEVELS[0]} to {LEVELS[-1]}, got {level!r} in {name!r}. "
                f"The unperturbed task is {environment}/{task}."
            )
        if axis in levels:
            raise ConfigError(f"{name!r} names the axis {axis} twice.")
        levels[axis] = int(level)
    return TaskName(environment=environment, task=task, levels=levels)
