"""Compose: commands put together from verbs, things and places, some combinations of which training never shows.

Every word of a held-out command occurs in training, and so does every pair of verb and place.
"""

from functools import partial

from volar.core.evidence import Mishap, Signs, Stage
from volar.envs.tabletop import commands, workbench
from volar.envs.tabletop.grammar import REGIONS, Command, sentences
from volar.envs.tabletop.task import GRASP, REACH, Task
from volar.envs.tabletop.workbench import NOVEL, SEEN, WITH_NOVEL

_WRONG = Mishap(cause="wrong object", measure="others_moved", above=0.04)
PUT = workbench.family(
    "compose",
    Signs(
        stages=(REACH, GRASP, Stage(name="place", measure="left", below=0.04, missed="wrong place")), mishaps=(_WRONG,)
    ),
)
PUSH = workbench.family(
    "compose",
    Signs(
        stages=(
            REACH,
            Stage(name="move", measure="object_moved", above=0.01, missed="no contact"),
            Stage(name="place", measure="left", below=commands.ON_REGION, missed="wrong place", lost="wrong place"),
        )
    ),
)
PLACES = ("yellow-bowl", "blue-bowl", "drawer")


def _beside(thing: str, kit: tuple[str, ...]) -> list[str]:
    """What a thing may go beside: others of another colour and another shape."""
    return [other for other in kit if not set(thing.split("-")) & set(other.split("-"))]


def _commands(things: tuple[str, ...], kit: tuple[str, ...]) -> list[Command]:
    """With these things on a table with that kit."""
    found = [Command("in", place, thing) for thing in things for place in PLACES]
    found += [Command("to", place, thing) for thing in things for place in REGIONS]
    for verb in ("left", "right"):
        found += [Command(verb, other, thing) for thing in things for other in _beside(thing, kit)]
    return found


def _held_out(command: Command) -> bool:
    """A Latin square: each thing misses one of the places that others are shown with, and each place some things."""
    assert command.thing is not None
    if command.thing in NOVEL:
        return True
    row = SEEN.index(command.thing)
    if command.verb == "in":
        return row % len(PLACES) == PLACES.index(command.place)
    if command.verb == "to":
        return row % 4 == 2 * tuple(REGIONS).index(command.place)
    others = _beside(command.thing, SEEN)
    return (row + ("left", "right").index(command.verb)) % len(others) == others.index(command.place)


COMMANDS = {f"compose-{command.name}": command for command in (*_commands(SEEN, SEEN), *_commands(NOVEL, WITH_NOVEL))}
TRAINED = tuple(name for name, command in COMMANDS.items() if not _held_out(command))
HELD_OUT = tuple(name for name, command in COMMANDS.items() if _held_out(command) and command.thing not in NOVEL)
HELD_OUT_THINGS = tuple(name for name, command in COMMANDS.items() if command.thing in NOVEL)


def _task(command: Command) -> Task:
    return Task(
        family=PUSH if command.verb == "to" else PUT,
        instructions=sentences(command),
        layout=workbench.novel_layout if command.thing in NOVEL else workbench.seen_layout,
        left=partial(commands.left, command), done=partial(commands.done, command),
        expert=partial(commands.expert, command), target=partial(commands.target, command),
    )  # fmt: skip


TASKS = {name: _task(command) for name, command in COMMANDS.items()}
