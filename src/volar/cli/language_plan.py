"""`volar language plan FOLDER --task T`: the first motion that a policy by language would make, in words."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.cli.language_run import Run, run
from volar.cli.output import Output
from volar.reasoning.language.conversation import Exchange


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Show a scene to the language model and tell the first motion that it asks for. Nothing moves."""

    policy: tyro.conf.Positional[Path]
    """folder that volar language write wrote"""
    task: str
    """such as tabletop/pick-place-red"""
    instruction: str | None = None
    """instead of the task's own"""
    seed: int = 0
    """of the scene"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Plan, prog="volar language plan", args=arguments)
    exchanges: list[Exchange] = []
    motions: list[str] = []

    def refuse(words: str) -> None:
        motions.append(words)

    once = Run(
        policy=command.policy, task=command.task, instruction=command.instruction, seed=command.seed, max_steps=1
    )  # fmt: skip
    episode = run(once, refuse, exchanges)
    trouble = [thought.words["trouble"] for thought in episode.thoughts if "trouble" in thought.words]
    complaints = [each.complaint for each in exchanges if each.complaint]
    data = {"instruction": episode.instruction, "motion": motions[0] if motions else None, "trouble": trouble,
            "asked": [each.asked for each in exchanges], "answers": [each.answer for each in exchanges],
            "complaints": complaints}  # fmt: skip
    lines = [f"{episode.instruction}:", motions[0] if motions else "no motion: " + "; ".join(trouble or ["finished"])]
    return Output(data, "\n".join([*lines, *(f"sent back: {complaint}" for complaint in complaints)]))
