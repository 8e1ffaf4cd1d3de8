"""Worlds to act in. Torch-free; each simulator is imported inside its own file only.

A task is written `environment/task`, for example `metaworld/faucet-open`. Every member has static methods `tasks()`,
`instructions(task)` and `expert()` beside the Env contract, and its constructor is `(task, *, cameras)`.
"""

from collections.abc import Mapping

from volar.core.errors import ConfigError
from volar.core.registry import Table
from volar.core.robot import Env, PrivilegedActor

TABLE = Table(
    "environment",
    {
        "metaworld": "volar.envs.metaworld:MetaWorld",
        "metaworld-state": "volar.envs.metaworld:MetaWorldState",
        "remote": "volar.envs.remote:Remote",
        "tabletop": "volar.envs.tabletop.world:Tabletop",
        "tabletop-state": "volar.envs.tabletop.world:TabletopState",
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


def make_expert(task: str) -> PrivilegedActor:
    """The scripted expert of the environment that `environment/task` names; it serves all its tasks."""
    return TABLE.load(task.partition("/")[0]).expert()


def tasks(environment: str) -> tuple[str, ...]:
    """All tasks of an environment, each written `environment/task`."""
    return tuple(f"{environment}/{name}" for name in TABLE.load(environment).tasks())


def instructions(task: str) -> tuple[str, ...]:
    """Ways to say what `environment/task` wants; the first is the one that `observe` gives."""
    environment, _, name = task.partition("/")
    return TABLE.load(environment).instructions(name)
