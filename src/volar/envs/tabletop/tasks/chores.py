"""Chores: chains of different commands on the workbench, drawer and button among them, in their order.

As in `horizon` the instruction is the present sub-task (CALVIN, arXiv 2112.03227) and success is the whole chain.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from volar.core.evidence import Signs, Stage
from volar.envs.tabletop import commands, workbench
from volar.envs.tabletop.grammar import BOWLS, REGIONS, Command, sentences
from volar.envs.tabletop.motions import Action
from volar.envs.tabletop.task import Scene, Task, Ways
from volar.envs.tabletop.workbench import SEEN

LENGTHS = (2, 5, 10)
BOWL_NAMES = tuple(name for name in BOWLS if name in workbench.GOALS)
OPEN, CLOSE, PRESS = Command("open", "drawer"), Command("close", "drawer"), Command("press", "button")
# A plan is stored as places in this list.
COMMANDS = (
    OPEN, CLOSE, PRESS,
    *(Command("in", place, thing) for thing in SEEN for place in (*BOWL_NAMES, "drawer")),
    *(Command("to", place, thing) for thing in SEEN for place in REGIONS),
)  # fmt: skip
FAMILY = workbench.family(
    "chores",
    Signs(
        stages=(
            Stage(name="first sub-task", measure="share_done", above=0.0, missed="first sub-task failed"),
            Stage(name="half of the chain", measure="share_done", above=0.499, missed="chain broken early"),
            Stage(name="whole chain", measure="share_done", above=0.999, missed="chain broken late"),
        )
    ),
)


def _possible(past: list[Command]) -> Iterator[Command]:
    """What may come next. Every thing is moved once: to an empty bowl or region, or into the open drawer."""
    moved, taken = {command.thing for command in past}, {command.place for command in past if command.thing}
    drawer = next((command for command in reversed(past) if command in (OPEN, CLOSE)), None)
    for command in COMMANDS:
        if command.thing is None:
            if command != drawer and (not past or command != past[-1]):
                yield command
        elif command.thing not in moved and (
            drawer == OPEN if command.place == "drawer" else command.place not in taken
        ):
            yield command


def _plan(length: int, random: np.random.Generator) -> list[Command]:
    """First a verb that is possible, then what it is said of."""
    plan: list[Command] = []
    for _ in range(length):
        possible = list(_possible(plan))
        verb = random.choice(sorted({command.verb for command in possible}))
        kind = [command for command in possible if command.verb == verb]
        plan.append(kind[int(random.integers(len(kind)))])
    return plan


def _layout(length: int, random: np.random.Generator) -> Scene:
    """notes: how many sub-tasks are done, then the plan."""
    begun = workbench.seen_layout(random)
    plan = [COMMANDS.index(command) for command in _plan(length, random)]
    return replace(begun, notes=np.array([0.0, *plan]))


def _present(now: Scene) -> Command:
    """The sub-task that is due, the last one when all are done."""
    return COMMANDS[int(now.notes[1 + min(int(now.notes[0]), len(now.notes) - 2)])]


def _advance(before: Scene, now: Scene) -> Scene:
    command, notes = _present(now), now.notes.copy()
    let_go = command.verb != "in" or now.opening > 0.6
    if not _done(now) and let_go and commands.done(command, now):
        notes[0] += 1
    return replace(now, notes=notes)


def _done(now: Scene) -> bool:
    return int(now.notes[0]) == len(now.notes) - 1


def _left(now: Scene) -> float:
    """Metres of the present sub-task; 0 when all are done."""
    return 0.0 if _done(now) else commands.left(_present(now), now)


def _target(now: Scene) -> int | None:
    return commands.target(_present(now), now)


def _facts(now: Scene) -> Mapping[str, float]:
    return {"subtasks_done": float(now.notes[0]), "share_done": float(now.notes[0]) / (len(now.notes) - 1)}


def _say(now: Scene) -> str:
    return sentences(_present(now))[0]


def _expert(now: Scene, ways: Ways) -> Action:
    return commands.expert(_present(now), now, ways)


TASKS = {
    f"chores-{length}": Task(
        family=FAMILY,
        instructions=("do what is said, one thing after the other",),
        layout=partial(_layout, length), left=_left, done=_done, expert=_expert, target=_target,
        advance=_advance, facts=_facts, say=_say,
    )
    for length in LENGTHS
}  # fmt: skip
