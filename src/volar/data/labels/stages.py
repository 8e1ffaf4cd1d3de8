"""Sub-tasks and the plan of an episode, told from its events: grasp this, carry it there, let go.

Names come from whoever knows the objects, or from instructions that name a thing and a place for everything that is
done; without, a thing is "it". No language model, and no reasons.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from volar.data.labels.keyframes import Story, Transfer

# What follows an article, up to a word that begins the next part of the sentence.
NOUN = re.compile(
    r"\b(?:the|a|an) (.+?)(?= (?:into|in|onto|on|to|of|at|by|from|over|under|left|right|beside|behind|next|between|with"
    r"|without|that|which|then|and|is|until)\b|[,.;:!]|$)"
)


def subtasks(story: Story) -> tuple[str, ...]:
    """The sub-task of every frame."""
    said: list[str] = []
    for transfer in story.transfers:
        said += [_take(transfer)] * (transfer.begin + 1 - len(said))
        said += [_bring(transfer)] * (transfer.end + 1 - len(said))
    if said:
        return tuple(said + ["finish"] * (story.length - len(said)))
    for number, keyframe in enumerate(story.keyframes, start=1):
        said += [f"go to place {number}"] * (keyframe.frame + 1 - len(said))
    return tuple(said + said[-1:] * (story.length - len(said)))


def plan(said: Sequence[str]) -> str:
    """The sub-tasks in order: "1. grasp the red cube 2. bring the red cube to the yellow bowl"."""
    steps = [step for place, step in enumerate(said) if place == 0 or step != said[place - 1]]
    return " ".join(f"{number}. {step}" for number, step in enumerate(steps, start=1) if step != "finish")


def named(story: Story, instructions: Sequence[str]) -> Story:
    """With the names of the instruction that is given when something is taken, if it has exactly two for everything
    that is done under it: the thing, and where it goes. instructions: of every frame."""
    found: list[Transfer] = []
    for instruction, group in groupby(story.transfers, key=lambda transfer: instructions[transfer.begin]):
        transfers, nouns = list(group), NOUN.findall(instruction.lower())
        if len(nouns) == 2 * len(transfers) and not any(transfer.thing for transfer in transfers):
            pairs = zip(transfers, nouns[::2], nouns[1::2], strict=True)
            transfers = [replace(transfer, thing=thing, place=place) for transfer, thing, place in pairs]
        found += transfers
    return replace(story, transfers=tuple(found))


def _take(transfer: Transfer) -> str:
    return f"{'grasp' if transfer.held else 'go behind'} {_the(transfer.thing)}"


def _bring(transfer: Transfer) -> str:
    return f"{'bring' if transfer.held else 'push'} {_the(transfer.thing)}" + (
        f" to the {transfer.place}" if transfer.place else " to its place"
    )


def _the(name: str | None) -> str:
    return f"the {name}" if name else "it"
