"""`volar language run FOLDER --task T`: one episode of a policy by language, told motion by motion."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.cli.evaluate import square_cameras
from volar.cli.output import Output
from volar.core.errors import ConfigError
from volar.core.robot import Episode, Job, require_match
from volar.core.thoughts import Thought
from volar.envs import make_env
from volar.envs.rollout import run_episode
from volar.policies.language_folder import load_language, read_language
from volar.reasoning.language.conversation import Exchange


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run one episode and tell every motion. Nothing is recorded: volar evaluate does that."""

    policy: tyro.conf.Positional[Path]
    """folder that volar language write wrote"""
    task: str
    """such as tabletop/pick-place-red"""
    instruction: str | None = None
    """instead of the task's own"""
    seed: int = 0
    """of the scene"""
    execute: int = 2
    """control steps between two looks"""
    max_steps: int = 800
    """control steps until time-out"""
    confirm: bool = False
    """ask a person before each motion; enter lets it begin, no ends all, other words are a correction"""


def ask_person(words: str) -> str | None:
    """At the terminal, which `main` has made sure of: "" lets the motion begin, None ends all, words correct it."""
    print(f"Next motion: {words}\nenter: go; no: stop; anything else: what to change", file=sys.stderr)
    try:
        answer = input("> ").strip()
    except EOFError:
        return None
    return None if answer.lower() in ("n", "no") else "" if answer.lower() in ("", "y", "yes") else answer


def run(command: Run, confirm: Callable[[str], str | None] | None, exchanges: list[Exchange]) -> Episode:
    """ConfigError before anything moves for a scene that the policy does not fit and for an empty instruction."""
    if command.instruction is not None and not command.instruction.strip():
        raise ConfigError("The instruction is empty; say what to do, or leave it out for the task's own.")
    robot = read_language(command.policy).policy.robot
    env = make_env(command.task, cameras=square_cameras(robot))
    try:
        require_match(robot, env.spec, our_name="The policy", their_name=f"the environment {command.task}")
        actor = load_language(
            command.policy, execute=command.execute, variables=os.environ, journal=exchanges.append, confirm=confirm
        )
        job = Job(
            task=command.task, seed=command.seed, arm="language", max_steps=command.max_steps,
            instruction=command.instruction,
        )  # fmt: skip
        return run_episode(env, actor, job)
    finally:
        env.close()


def told(thoughts: Sequence[Thought]) -> list[str]:
    """What was new at each decision, in words."""
    return [
        f"{number:>4}  {segment}: {words}"
        for number, thought in enumerate(thoughts)
        for segment, words in thought.words.items() if thought.ages.get(segment) == 0
    ]  # fmt: skip


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Run, prog="volar language run", args=arguments)
    if command.confirm and not sys.stdin.isatty():
        raise ConfigError("--confirm asks a person, and there is no terminal; leave it out, nobody is needed.")
    exchanges: list[Exchange] = []
    episode = run(command, ask_person if command.confirm else None, exchanges)
    cost = {
        "exchanges": len(exchanges), "seconds": sum(each.seconds for each in exchanges),
        "tokens_read": sum(each.read or 0 for each in exchanges),
        "tokens_written": sum(each.written or 0 for each in exchanges),
    }  # fmt: skip
    lines = told(episode.thoughts)
    end = f"{episode.outcome} after {episode.steps} steps: {episode.instruction}"
    data = {"outcome": str(episode.outcome), "steps": episode.steps, "instruction": episode.instruction,
            "motions": [line.strip() for line in lines], "privileged": list(episode.privileged), **cost,
            "error": episode.error}  # fmt: skip
    asked = f"{cost['exchanges']} questions, {cost['seconds']:.1f} s, {cost['tokens_written']} tokens written"
    return Output(data, "\n".join([*lines, end, asked]))
