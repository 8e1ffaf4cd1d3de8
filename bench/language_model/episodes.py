"""Language models in this process lead the hand of `tabletop`: tuned, as it is, and the rules that taught it.

python bench/language_model/episodes.py --tuned FOLDER --out ROWS.jsonl [--scenes 20]     resumable; one process

The same scenes for all arms. One row per episode; `tables.py` makes the tables.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from volar.core.fingerprint import git_commit
from volar.core.progress import counting
from volar.core.robot import Env
from volar.envs import make_env
from volar.envs.rollout import Job, run_episode
from volar.envs.tabletop.world import Tabletop
from volar.nn.primitives.constrained import Box
from volar.policies.language_primitives import LanguagePrimitives
from volar.policies.perception import SimulatorPerception
from volar.reasoning.language.compact_prompts import parameters_answer
from volar.reasoning.language.conversation import Exchange
from volar.reasoning.language.language_model import Answer, LanguageModel, Message
from volar.reasoning.language.local_model import local
from volar.reasoning.language.scene_rules import Errand, next_subtask, parameters

FIRST = 9000  # seed of the first scene
TASKS = {  # control steps, 20 per second
    "pick-place-red": 500, "horizon-1": 500, "obstacle-50": 500, "obstacle-25": 500, "obstacle-50-wide": 500,
    "horizon-plan-2": 900,
}  # fmt: skip
ERRAND = re.compile(r"put the ([a-z ]+?) (onto|into) the ([a-z ]+?)(?: without.*)?$")


@dataclass(frozen=True, kw_only=True)
class Study:
    """Run what is not in `out` yet."""

    tuned: Path
    """folder of volar language tune"""
    out: Path
    """rows, JSON lines"""
    scenes: int = 20
    """per task and arm"""


class Teacher(LanguageModel):
    """The rules, told the scene by the simulator and the errand by the instruction."""

    compact = True

    def __init__(self, world: Tabletop) -> None:
        self._world = world

    def describe(self) -> dict[str, Any]:
        return {"model": "rules"}

    def answer(self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None) -> Answer:
        objects, now = self._world.named_objects(), self._world.scene
        closed = now.opening < 0.75
        said = self._world.observe(images=False).instruction
        errands = [_errand(part, objects) for part in said.split(", then ")]
        chosen = next_subtask(errands, objects, now.hand, closed=closed)
        text = json.dumps(asdict(chosen))
        if schema is not None and schema["title"] == "MotionRequest":
            text = parameters_answer(parameters(chosen, objects, now.hand, closed=closed))
        return Answer(text=text, read=None, written=None, seconds=0.0)


def _errand(said: str, objects: Mapping[str, Any]) -> Errand:
    found = ERRAND.fullmatch(said)
    if found is None:
        raise ValueError(f"no errand: {said!r}")
    place = next(name for name in objects if name.endswith(found[3]))
    return Errand(thing=found[1], place=place, relation="in" if found[2] == "into" else "on")


def episode(env: Env, model: LanguageModel, task: str, seed: int, arm: str) -> dict[str, Any]:
    world = env.unwrapped
    assert isinstance(world, Tabletop)
    exchanges: list[Exchange] = []
    space = world.workspace()
    actor = LanguagePrimitives(
        LanguagePrimitives.Config(), model, SimulatorPerception(), spec=env.spec,
        box=Box(low=np.array(space.low), high=np.array(space.high)), journal=exchanges.append,
    )  # fmt: skip
    name = f"tabletop/{task}"
    done = run_episode(env, actor, Job(task=name, seed=seed, arm=arm, max_steps=TASKS[task]))
    return {
        "task": task, "arm": arm, "seed": seed, "success": done.success, "outcome": done.outcome.value,
        "steps": done.steps, "tracks": {key: [track.low, track.high] for key, track in done.tracks.items()},
        "questions": len(exchanges), "complaints": [each.complaint for each in exchanges if each.complaint],
        "answers": [each.answer for each in exchanges], "tokens": sum(each.written or 0 for each in exchanges),
        "seconds": round(sum(each.seconds for each in exchanges), 2),
    }  # fmt: skip


def main(study: Study) -> None:
    rows = [json.loads(line) for line in study.out.read_text().splitlines()] if study.out.exists() else []
    done = {(row["task"], row["arm"], row["seed"]) for row in rows}
    models = {"tuned": local(folder=str(study.tuned)), "untuned": local()}
    jobs = [
        (seed, task, arm)
        for seed in range(FIRST, FIRST + study.scenes) for task in TASKS for arm in ("rules", "tuned", "untuned")
        if (task, arm, seed) not in done
    ]  # fmt: skip
    envs = {task: make_env(f"tabletop/{task}", cameras={}) for task in TASKS}
    with study.out.open("a") as out, counting("episodes", len(jobs), shown=True) as advance:
        for seed, task, arm in jobs:
            world = envs[task].unwrapped
            assert isinstance(world, Tabletop)
            model = Teacher(world) if arm == "rules" else models[arm]
            print(
                json.dumps({**episode(envs[task], model, task, seed, arm), "commit": git_commit()}),
                file=out,
                flush=True,
            )
            advance(1)


if __name__ == "__main__":
    main(tyro.cli(Study))
