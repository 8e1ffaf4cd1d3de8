"""How often do oracle, random actions and the mean demonstration succeed at commands, attributes, drawer and button?

python bench/tabletop/experts.py [--episodes 100] [--noise 0.1] > experts.json

The mean demonstration is a blind policy: the mean action at each step of the expert's episodes in the group.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
import tyro

from volar.core.fingerprint import fingerprint
from volar.core.progress import counting
from volar.core.robot import Actor, Episode, Job
from volar.envs import make_env, make_expert
from volar.envs.controls import OpenLoop, RandomActor
from volar.envs.rollout import run_episode
from volar.envs.tabletop.grammar import VERBS
from volar.envs.tabletop.tasks import TASKS
from volar.envs.tabletop.tasks.compose import COMMANDS
from volar.statistics.intervals import wilson

FIRST_SCENE, MAX_STEPS = 6000, 200


@dataclass(frozen=True, kw_only=True)
class Experts:
    """episodes: of the expert per group, spread over its tasks, each in a scene of its own. controls: of random actions
    and of the mean demonstration, in the first of these scenes. noise: standard deviation of what is added to the
    expert's actions, in action units; `volar collect` adds 0.1."""

    episodes: int = 100
    controls: int = 25
    noise: float = 0.1


def groups() -> dict[str, list[str]]:
    verbs = {f"compose: {VERBS[verb].name}": [name for name, command in COMMANDS.items() if command.verb == verb]
             for verb in ("in", "left", "right", "to")}  # fmt: skip
    attribute = [name for name in TASKS if name.startswith("attribute-")]
    return {
        **verbs,
        "attribute": attribute,
        **{name: [name] for name in ("drawer-open", "drawer-close", "button-press")},
    }


def episode(task: str, actor: Actor, seed: int, noise: float, frames: bool) -> Episode:
    env = make_env(f"tabletop/{task}", cameras={})
    job = Job(task=task, seed=seed, arm="", max_steps=MAX_STEPS, noise=noise, frames="all" if frames else "none")
    found = run_episode(env, actor, job)
    env.close()
    return found


def row(episodes: list[Episode]) -> dict[str, object]:
    successes = sum(bool(each.success) for each in episodes)
    return {
        "episodes": len(episodes), "successes": successes, "rate": asdict(wilson(successes, len(episodes))),
        "steps_of_successes": round(float(np.mean([each.steps for each in episodes if each.success] or [0])), 1),
        "errors": sum(each.error is not None for each in episodes),
        "failed": dict(Counter(f"{each.job.task} {each.job.seed}" for each in episodes if not each.success))
        if successes > len(episodes) / 2 else {},
    }  # fmt: skip


def mean_actions(episodes: list[Episode]) -> np.ndarray:
    """[longest 4]; a demonstration that has ended no longer counts."""
    parts = [each.trajectory.actions for each in episodes if each.trajectory is not None and each.success]
    return np.stack([
        np.mean([part[step] for part in parts if step < len(part)], axis=0) for step in range(max(map(len, parts)))
    ])  # fmt: skip


def measure(command: Experts) -> dict[str, object]:
    found: dict[str, object] = {}
    random = RandomActor(make_env("tabletop/fork", cameras={}).spec)
    with counting("episodes", (command.episodes + 2 * command.controls) * len(groups()), shown=True) as advance:
        for group, tasks in groups().items():
            told = [(tasks[number % len(tasks)], FIRST_SCENE + number) for number in range(command.episodes)]
            experts: list[Episode] = []
            for task, seed in told:
                experts.append(episode(task, make_expert("tabletop/fork"), seed, command.noise, frames=True))
                advance(1)
            arms = {"expert": experts}
            for name, actor in (("random", random), ("blind", OpenLoop(mean_actions(experts)))):
                arms[name] = []
                for task, seed in told[: command.controls]:
                    arms[name].append(episode(task, actor, seed, 0.0, frames=False))
                    advance(1)
            found[group] = {"tasks": len(tasks), **{name: row(episodes) for name, episodes in arms.items()}}
    return {"command": asdict(command), "max_steps": MAX_STEPS, "groups": found, "fingerprint": fingerprint()}


if __name__ == "__main__":
    print(json.dumps(measure(tyro.cli(Experts)), indent=1))
