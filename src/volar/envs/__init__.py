"""Worlds to act in. Torch-free; each simulator is imported inside its own file only.

A task is written `environment/task`, for example `metaworld/faucet-open`, and perturbed
`metaworld/faucet-open@camera=3` (`volar.envs.perturbation`). Every member has static methods `tasks()`,
`instructions(task)` and `expert()` beside the Env contract, and its constructor is `(task, *, cameras)`.
"""

from collections.abc import Mapping

from volar.core.registry import Table
from volar.core.robot import Env, PrivilegedActor
from volar.envs.task_names import parse_task

TABLE = Table(
    "environment",
    {
        "libero": "volar.envs.libero.world:Libero",
        "metaworld": "volar.envs.metaworld:MetaWorld",
        "metaworld-state": "volar.envs.metaworld:MetaWorldState",
        "remote": "volar.envs.remote:Remote",
        "tabletop": "volar.envs.tabletop.world:Tabletop",
        "tabletop-state": "volar.envs.tabletop.world:TabletopState",
        "toy": "volar.envs.toy:Toy",
    },
)
FAR = ("remote",)  # whose tasks are tasks of an environment elsewhere, which is perturbed there


def make_env(task: str, *, cameras: Mapping[str, int] | None = None) -> Env:
    """The environment of `environment/task`. cameras: name -> side in pixels (square); None takes the
    environment's declared default. Raises ConfigError for an unknown environment, task, camera or perturbation."""
    named = parse_task(task)
    if named.environment in FAR:
        return TABLE.load(named.environment)(task.partition("/")[2], cameras=cameras)
    env = TABLE.load(named.environment)(named.task, cameras=cameras)
    if not named.levels:
        return env

    from volar.envs.perturbation.perturbed import perturb

    return perturb(env, named.levels, name=named.environment)


def make_expert(task: str) -> PrivilegedActor:
    """The scripted expert of the environment that `environment/task` names; it serves all its tasks."""
    return TABLE.load(parse_task(task).environment).expert()


def tasks(environment: str) -> tuple[str, ...]:
    """All tasks of an environment, each written `environment/task`."""
    return tuple(f"{environment}/{name}" for name in TABLE.load(environment).tasks())


def instructions(task: str) -> tuple[str, ...]:
    """Ways to say what `environment/task` wants; the first is the one that `observe` gives."""
    named = parse_task(task)
    return TABLE.load(named.environment).instructions(named.task)
