"""E6: does the field that is left at the end tell strange observations from usual ones? Beside it, on the same scenes,
the disagreement of three flow policies and the length of flow's path.

python bench/decoders/strange.py --out RUN --results docs/results/decoders/strange.json
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from analyse import auroc_interval
from variants import FIRST_SCENE, SEEDS, TASKS, run_folder

from volar.core.model import Batch, Budget
from volar.envs import make_env
from volar.policies.vla import Policy, latest_checkpoint

OBJECTS = slice(4, None)  # of proprioception: what follows the hand and the gripper
POSITIONS = [4 + 7 * row + axis for row in range(3) for axis in range(2)]  # x and y of the objects

READ_AT = (4, 16, 64)  # evaluations


@dataclass(frozen=True, kw_only=True)
class Strange:
    """Three ways to make a scene strange, each against the scenes as they are."""

    out: Path
    results: Path
    scenes: int = 200


def perturbations(states: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
    """states: [n p] in metres and quaternions."""
    moved, noisy, gone = states.copy(), states.copy(), states.copy()
    moved[:, POSITIONS] += 0.15
    noisy[:, OBJECTS] += random.normal(0, 0.03, noisy[:, OBJECTS].shape)
    gone[:, OBJECTS] = 0.0
    return {"objects 15 cm aside": moved, "3 cm of noise on every object": noisy, "objects not seen": gone}


def batch_of(policy: Policy, states: np.ndarray, instruction: str) -> Batch:
    normalised = policy.acting.proprioception.normalize(states)
    return Batch(images={}, instructions=(instruction,) * len(states),
                 proprioception=torch.as_tensor(normalised, dtype=torch.float32))  # fmt: skip


def residuals(policies: list[Policy], states: np.ndarray, instruction: str, evaluations: int) -> np.ndarray:
    """[policy n]"""
    budget, found = Budget(evaluations=evaluations), []
    for policy in policies:
        sample = policy.predict(batch_of(policy, states, instruction), generator=seeded(), budget=budget)
        assert sample.strangeness is not None
        found.append(sample.strangeness.numpy())
    return np.stack(found)


def flow_signs(policies: list[Policy], states: np.ndarray, instruction: str) -> dict[str, np.ndarray]:
    """Disagreement: deviation between policies that start from the same noise, [1 n]. Path: its length over the
    straight way, [policy n]."""
    ends, paths = [], []
    for policy in policies:
        context = policy.backbone.encode(batch_of(policy, states, instruction))
        state = torch.randn((len(states), policy.config.horizon, policy.robot.action.dim), generator=seeded())
        begun, length = state, torch.zeros(len(states))
        for step in range(16):
            time = torch.full((len(states),), 1 - step / 16)
            change = policy.decoder.field(context, state, time) / 16  # type: ignore[operator]
            state, length = state - change, length + change.flatten(1).norm(dim=1)
        ends.append(state)
        paths.append((length / (state - begun).flatten(1).norm(dim=1)).numpy())
    spread = torch.stack(ends).std(0).flatten(1).norm(dim=1)
    return {"disagreement of 3 flow policies": spread.numpy()[None], "length of flow's path": np.stack(paths)}


def all_signs(
    equilibrium: list[Policy], flow: list[Policy], states: np.ndarray, instruction: str
) -> dict[str, np.ndarray]:
    left = {f"equilibrium's residual after {count}": residuals(equilibrium, states, instruction, count)
            for count in READ_AT}  # fmt: skip
    return left | flow_signs(flow, states, instruction)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@torch.inference_mode()
def main(command: Strange) -> None:
    def load(variant: str) -> list[Policy]:
        return [Policy.load(latest_checkpoint(run_folder(command.out, variant, seed))).eval() for seed in SEEDS]

    equilibrium, flow = load("equilibrium"), load("flow")
    for policy in equilibrium:  # at its stop every residual would be just below the threshold
        policy.decoder.config = replace(policy.decoder.config, stop=0.0)
    rows = []
    for task in TASKS:
        env = make_env(task, cameras={})
        states = []
        for scene in range(FIRST_SCENE, FIRST_SCENE + command.scenes):
            env.reset(scene)
            observation = env.observe(images=False)
            states.append(observation.proprioception)
        usual, instruction = np.stack(states), observation.instruction
        signs = all_signs(equilibrium, flow, usual, instruction)
        for name, strange in perturbations(usual, np.random.default_rng(0)).items():
            theirs = all_signs(equilibrium, flow, strange, instruction)
            for sign, values in signs.items():
                scores = np.concatenate([values, theirs[sign]], axis=1)
                labels = np.concatenate([np.zeros_like(values), np.ones_like(theirs[sign])], axis=1)
                rows.append({"task": task, "strange": name, "sign": sign, **auroc_interval(scores, labels)})
                print(json.dumps(rows[-1]), flush=True)
    command.results.parent.mkdir(parents=True, exist_ok=True)
    command.results.write_text(json.dumps({"scenes": command.scenes, "rows": rows}, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Strange))
