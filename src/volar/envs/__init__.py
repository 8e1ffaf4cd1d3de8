"""Worlds to act in. Torch-free; each simulator is imported inside its own file only.

A task is written `environment/task`, for example `metaworld/faucet-open`.
"""

from collections.abc import Mapping

from volar.core.errors import ConfigError
from volar.core.registry import Table
from volar.core.robot import Env

TABLE = Table(
    "environment",
    {
        "metaworld": "volar.envs.metaworld:MetaWorld",
        "toy": "volar.envs.toy:Toy",
    },
)


def make_env(task: str, *, cameras: Mapping[str, int] | None = None) -> Env:
    """The environment of `environment/task`. cameras: name -> side in pixels (square); None takes the
    environment's declared default. Raises ConfigError for an unknown environment, task or camera."""
    environment, slash, name = task.partition("/")
    if not slash:
        raise ConfigError(f"A task is written 'environment/task', for example 'metaworld/faucet-open'; got {task!r}.")
    return TABLE.load(environment)(name, cameras=cameras)
