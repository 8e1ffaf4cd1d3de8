"""The tasks of `tabletop`, one module per family; a new family is a module and a line here."""

from volar.core.errors import ConfigError
from volar.envs.tabletop.grammar import parse, sentences
from volar.envs.tabletop.task import Task
from volar.envs.tabletop.tasks import (
    attribute,
    chores,
    compose,
    drawer,
    fork,
    horizon,
    memory,
    obstacle,
    pick_place,
    precise,
    push,
    sort,
)

TASKS: dict[str, Task] = {
    **fork.TASKS,
    **precise.TASKS,
    **push.TASKS,
    **pick_place.TASKS,
    **compose.TASKS,
    **attribute.TASKS,
    **drawer.TASKS,
    **obstacle.TASKS,
    **memory.TASKS,
    **horizon.TASKS,
    **chores.TASKS,
    **sort.TASKS,
}


def task_of(sentence: str) -> str:
    """The task that asks for what a sentence of the grammar says. Raises ConfigError for a sentence outside the grammar
    and for a command that no table is laid for, such as a thing beside one of its own colour."""
    command = parse(sentence)
    plain = sentences(command)[0]
    found = [name for name, task in TASKS.items() if task.instructions[0] == plain]
    if not found:
        raise ConfigError(
            f"No task asks to {plain!r}. Things go beside those of another colour and shape that lie on their table, "
            f"and described ones into the bowl: see `volar.envs.tabletop.tasks.compose.COMMANDS`."
        )
    return found[0]
