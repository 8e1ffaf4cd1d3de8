"""Drawer and button: what is to be moved hangs on a joint. The table is that of `compose`, seed by seed."""

from functools import partial

from volar.core.evidence import Signs, Stage
from volar.envs.tabletop import commands, workbench
from volar.envs.tabletop.grammar import Command, sentences
from volar.envs.tabletop.task import Task


def _task(command: Command, moved: float, below: float) -> Task:
    """moved: metres of the joint by which contact shows; below: metres still to go at which it is done."""
    return Task(
        family=workbench.family(
            command.place,
            Signs(
                stages=(
                    Stage(name="move", measure=f"{command.place}_moved", above=moved, missed="no contact"),
                    Stage(name="finish", measure="left", below=below, missed="gave up half way", lost="undone"),
                )
            ),
        ),
        instructions=sentences(command),
        layout=workbench.seen_layout,
        left=partial(commands.left, command), done=partial(commands.done, command),
        expert=partial(commands.expert, command), target=partial(commands.target, command),
    )  # fmt: skip


TASKS = {
    "drawer-open": _task(Command("open", "drawer"), 0.005, 0.01),
    "drawer-close": _task(Command("close", "drawer"), 0.005, commands.CLOSED),
    "button-press": _task(Command("press", "button"), 0.002, 0.004),
}
