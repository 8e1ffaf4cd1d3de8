"""A policy as an Actor: observation in the robot's units -> Batch -> normalised chunk -> Chunk in the robot's units."""

import time
from pathlib import Path

import numpy as np
import torch

from volar.core.errors import ConfigError, EpisodeError
from volar.core.model import UNLIMITED, Batch, Budget
from volar.core.robot import Actor, Chunk, Observation
from volar.policies.vla import Policy, latest_checkpoint


class PolicyActor(Actor):
    """`execute` actions of every chunk are carried out before the next look, and a decoder that iterates spends at most
    `budget` on a chunk. Both are choices of whoever runs the policy, recorded with the result, and never a hidden part
    of the checkpoint."""

    def __init__(self, policy: Policy, *, execute: int, budget: Budget = UNLIMITED) -> None:
        if not 1 <= execute <= policy.config.horizon:
            raise ConfigError(f"execute must be 1 to {policy.config.horizon} (the policy's horizon), got {execute}.")
        self.policy, self.execute, self.budget = policy.eval(), execute, budget
        self.device = next(policy.parameters()).device
        self.generator = torch.Generator(self.device)

    def reset(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def act(self, observation: Observation) -> Chunk:
        started = time.perf_counter()
        with torch.inference_mode():
            sample = self.policy.predict(self._batch(observation), generator=self.generator, budget=self.budget)
            chunk, evaluations = sample.actions[0].cpu().numpy(), int(sample.evaluations[0])
        actions = self.policy.normalize_action.denormalize(chunk).astype(np.float32)
        return Chunk(
            actions=actions,
            execute=self.execute,
            evaluations=evaluations,
            latency=time.perf_counter() - started,
        )

    def _batch(self, observation: Observation) -> Batch:
        images = {}
        for camera in self.policy.robot.cameras:
            image = observation.images.get(camera.name)
            shape = (camera.height, camera.width, 3)
            if image is None or image.shape != shape:
                came = "none" if image is None else image.shape
                raise EpisodeError(f"Camera {camera.name!r}: the policy expects a picture {shape}, got {came}.")
            images[camera.name] = torch.from_numpy(np.ascontiguousarray(image))[None].to(self.device)
        proprioception = self.policy.normalize_proprioception.normalize(observation.proprioception)
        return Batch(
            images=images,
            instructions=(observation.instruction,),
            proprioception=torch.as_tensor(proprioception, dtype=torch.float32, device=self.device)[None],
        )


def load_policy(path: str | Path, *, execute: int, device: str = "cpu", budget: Budget = UNLIMITED) -> PolicyActor:
    """The trained policy at `path` (a checkpoint or a training run), ready to act. Raises ConfigError."""
    return PolicyActor(Policy.load(latest_checkpoint(Path(path)), device=device), execute=execute, budget=budget)
