"""Sub-tasks and the plan of an episode, told from its events: grasp this, carry it there, let go.

Names come from whoever knows the objects; without, a thing is "it". No language model, and no reasons.
"""

from collections.abc import Sequence

from volar.data.labels.keyframes import Story, Transfer


def subtasks(story: Story) -> tuple[str, ...]:
    """The sub-task of every frame."""
    said: list[str] = []
    for transfer in story.transfers:
        said += [_take(transfer)] * (transfer.begin - len(said))
        said += [_bring(transfer)] * (transfer.end - len(said))
    if said:
        return tuple(said + ["finish"] * (story.length - len(said)))
    for number, keyframe in enumerate(story.keyframes, start=1):
        said += [f"go to place {number}"] * (keyframe.frame - len(said))
    return tuple(said + said[-1:] * (story.length - len(said)))


def plan(said: Sequence[str]) -> str:
    """The sub-tasks in order: "1. grasp the red cube 2. bring the red cube to the yellow bowl"."""
    steps = [step for place, step in enumerate(said) if place == 0 or step != said[place - 1]]
    return " ".join(f"{number}. {step}" for number, step in enumerate(steps, start=1) if step != "finish")


def _take(transfer: Transfer) -> str:
    return f"{'grasp' if transfer.held else 'go behind'} {_the(transfer.thing)}"


def _bring(transfer: Transfer) -> str:
    return f"{'bring' if transfer.held else 'push'} {_the(transfer.thing)}" + (
        f" to the {transfer.place}" if transfer.place else " to its place"
    )


def _the(name: str | None) -> str:
    return f"the {name}" if name else "it"
