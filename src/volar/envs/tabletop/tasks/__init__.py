"""The tasks of `tabletop`, one module per family; a new family is a module and a line here."""

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
}
