"""Language Movement Primitives on LIBERO's object suite, set by rules in a model's place, with and without clearances.

python bench/structure/language/libero_object.py --out ROWS.jsonl [--scenes 10]     resumable; needs volar[libero]
python bench/structure/language/libero_object.py --out ROWS.jsonl --show            the table, markdown to stdout

The simulator says where things are (privileged). Scenes are the suite's published initial states.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from volar.core.robot import Job
from volar.envs import make_env
from volar.envs.libero.tasks import FIRST_EVALUATION_SEED, tasks_of
from volar.envs.rollout import run_episode
from volar.policies.language_primitives import LanguagePrimitives
from volar.policies.perception import SimulatorPerception, naming_world
from volar.reasoning.language.compact_prompts import NOTHING_LEFT, parameters_answer
from volar.reasoning.language.language_model import Answer, LanguageModel, Message
from volar.reasoning.language.motion_request import GripperEvent, MotionRequest, Via
from volar.statistics.intervals import count_pairs, paired_difference, wilson
from volar.statistics.paired import mcnemar_stratified

THING = re.compile(r"^- (.+): centre \((.+)\) m, size \((.+)\) m$", re.MULTILINE)
ERRAND = re.compile(r"^Task: pick up the (.+) and place it in the (.+)$", re.MULTILINE)
ARMS = ("vias", "straight")
STEPS = 800  # control steps, 40 s: these motions are held to 0.25 m/s; published evaluations allow 280
GRIP = 0.03  # metres that the fingertips are below a thing's top, or at its centre where that is lower
OPENING = 0.07  # metres, what fits between the fingers, which open along y
DROP = 0.15  # metres above a basket's centre


class Rules(LanguageModel):
    """Reach, carry, release, by how many motions were made."""

    def __init__(self, arm: str) -> None:
        self._arm = arm

    def describe(self) -> dict[str, Any]:
        return {"model": "rules", "arm": self._arm}

    def answer(self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None) -> Answer:
        text = messages[-1].text
        sizes = {name: np.array([float(each) for each in size.split(", ")]) for name, _, size in THING.findall(text)}
        (thing, place), made = ERRAND.findall(text)[0], len(re.findall(r"^- to ", text, re.MULTILINE))
        return Answer(text=self._said(thing, place, made, sizes), read=None, written=None, seconds=0.0)

    def _said(self, thing: str, place: str, made: int, sizes: Mapping[str, np.ndarray]) -> str:
        if made > 2:
            return NOTHING_LEFT
        if made == 2:
            return parameters_answer(MotionRequest(goal_object=thing, gripper=(GripperEvent(event="open"),)))
        if made == 1:
            rise = (Via(at_fraction=0.25, axis="z", clearance_m=0.08), Via(at_fraction=0.8, axis="z", clearance_m=0.06))
            return self._motion(place, DROP, 0.0, rise, ())
        long, wide, high = sizes[thing]
        yaw = 1.5708 if wide > OPENING > long else 0.0
        above = (Via(at_fraction=0.9, axis="z", clearance_m=0.08),)
        return self._motion(thing, max(0.0, high / 2 - GRIP), yaw, above, (GripperEvent(event="close"),))

    def _motion(
        self, goal: str, above: float, yaw: float, vias: tuple[Via, ...], gripper: tuple[GripperEvent, ...]
    ) -> str:
        offset = (0.0, 0.0, round(above, 3))
        passing = vias if self._arm == "vias" else ()
        return parameters_answer(
            MotionRequest(goal_object=goal, goal_offset_m=offset, yaw_rad=yaw, speed_m_s=0.25, vias=passing,
                          gripper=gripper)
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run:
    """scenes: of each of the ten tasks."""

    out: Path
    scenes: int = 10
    show: bool = False


def run(command: Run) -> None:
    done = {(row["task"], row["arm"], row["seed"]) for row in read(command.out)}
    for task in tasks_of("object"):
        env = make_env(f"libero/{task.name}", cameras={})
        for seed in range(FIRST_EVALUATION_SEED, FIRST_EVALUATION_SEED + command.scenes):
            for arm in ARMS:
                if (task.name, arm, seed) in done:
                    continue
                actor = LanguagePrimitives(
                    LanguagePrimitives.Config(decompose=False), Rules(arm), SimulatorPerception(), spec=env.spec,
                    workspace=naming_world(env).workspace(),
                )  # fmt: skip
                job = Job(task=f"libero/{task.name}", seed=seed, arm=arm, max_steps=STEPS)
                found = run_episode(env, actor, job)
                row = {
                    "task": task.name, "arm": arm, "seed": seed, "success": found.success, "steps": found.steps,
                    "cause": found.failure.cause if found.failure else "", "error": found.error,
                }  # fmt: skip
                with command.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        env.close()


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    print("| task | " + " | ".join(ARMS) + " |\n| --- |" + " --- |" * len(ARMS))
    for task in [*dict.fromkeys(row["task"] for row in rows), "all"]:
        cells = [[row for row in rows if row["arm"] == arm and task in ("all", row["task"])] for arm in ARMS]
        shares = [f"{sum(row['success'] for row in cell)} of {len(cell)}" for cell in cells]
        if task == "all":
            found = [wilson(sum(row["success"] for row in cell), len(cell)) for cell in cells]
            pairs = zip(shares, found, strict=True)
            shares = [f"{share} ({100 * each.low:.0f} to {100 * each.high:.0f} %)" for share, each in pairs]
        print(f"| {task.rpartition('/')[2].replace('_', ' ')} | " + " | ".join(shares) + " |")
    pairs = []
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        one, two = ({row["seed"]: row["success"] for row in own if row["arm"] == arm} for arm in ARMS)
        seeds = sorted(one.keys() & two.keys())
        pairs.append(count_pairs(*(np.array([arm[seed] for seed in seeds]) for arm in (one, two))))
    found, p = paired_difference(pairs), mcnemar_stratified(pairs, mid=True)
    print(
        f"\n{ARMS[0]} minus {ARMS[1]}: {100 * found.estimate:+.0f} points ({100 * found.low:+.0f} to "
        f"{100 * found.high:+.0f}), McNemar (mid-p) {p:.1g}"
    )


if __name__ == "__main__":
    given = tyro.cli(Run)
    if not given.show:
        run(given)
    show(read(given.out))
