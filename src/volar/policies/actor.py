"""A policy as an Actor: observation in the robot's units -> Batch -> normalised chunk -> Chunk in the robot's units."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from volar.core.errors import ConfigError, EpisodeError
from volar.core.model import UNLIMITED, Batch, Budget, WarmStart, WarmStartDecoder
from volar.core.robot import BatchActor, Camera, Chunk, Observation
from volar.policies.vla import Policy, latest_checkpoint


class PolicyActor(BatchActor):
    """`execute` actions of every chunk are carried out before the next look, and a decoder that iterates spends at most
    `budget` on a chunk. Both are choices of whoever runs the policy, recorded with the result, and never a hidden part
    of the checkpoint. Where the decoder's configuration asks for it, each chunk sets out from what the one before it
    left over."""

    def __init__(self, policy: Policy, *, execute: int, budget: Budget = UNLIMITED) -> None:
        if not 1 <= execute <= policy.config.horizon:
            raise ConfigError(f"execute must be 1 to {policy.config.horizon} (the policy's horizon), got {execute}.")
        self.policy, self.execute, self.budget = policy.eval(), execute, budget
        self.normalizers = policy.acting
        self.device = next(policy.parameters()).device
        self.generator = torch.Generator(self.device)
        self.warm = isinstance(policy.decoder, WarmStartDecoder) and policy.decoder.warm
        self.left: dict[int, torch.Tensor] = {}  # episode -> the normalised actions [<h a] of its last chunk still due

    def reset(self, seed: int) -> None:
        self.generator.manual_seed(seed)
        self.left.clear()

    def act_many(self, rows: Sequence[int], observations: Sequence[Observation]) -> list[Chunk]:
        """Every chunk's latency is that of the whole batch: this is how long its episode had to wait."""
        started = time.perf_counter()
        with torch.inference_mode():
            batch, start = self.batch(observations), self._start(rows) if self.warm else None
            sample = self.policy.predict(batch, generator=self.generator, budget=self.budget, start=start)
        if self.warm:
            self.left.update(zip(rows, sample.actions[:, self.execute :], strict=True))
        actions = self.normalizers.action.denormalize(sample.actions.cpu().numpy()).astype(np.float32)
        latency = time.perf_counter() - started
        strangeness = [None] * len(rows) if sample.strangeness is None else sample.strangeness.tolist()
        return [
            Chunk(actions=chunk, execute=self.execute, evaluations=evaluations, latency=latency, strangeness=strange)
            for chunk, evaluations, strange in zip(actions, sample.evaluations.tolist(), strangeness, strict=True)
        ]

    def _start(self, rows: Sequence[int]) -> WarmStart:
        horizon, dim = self.policy.config.horizon, self.policy.widths.action
        actions = torch.zeros(len(rows), horizon, dim, device=self.device)
        known = torch.zeros(len(rows), horizon, dtype=torch.bool, device=self.device)
        for index, left in enumerate(self.left.get(row) for row in rows):
            if left is not None:
                actions[index, : len(left)] = left
                known[index, : len(left)] = True
        return WarmStart(actions=actions, known=known)

    def batch(self, observations: Sequence[Observation]) -> Batch:
        """As the policy's networks take them. EpisodeError for pictures of another size than it learned from."""
        proprioception = np.stack([observation.proprioception for observation in observations])
        normalised = self.normalizers.proprioception.normalize(proprioception)
        return Batch(
            images={camera.name: self._pictures(camera, observations) for camera in self.policy.robot.cameras},
            instructions=tuple(observation.instruction for observation in observations),
            proprioception=torch.as_tensor(normalised, dtype=torch.float32, device=self.device),
        )

    def _pictures(self, camera: Camera, observations: Sequence[Observation]) -> torch.Tensor:
        shape = (camera.height, camera.width, 3)
        pictures = []
        for observation in observations:
            image = observation.images.get(camera.name)
            if image is None or image.shape != shape:
                came = "none" if image is None else image.shape
                raise EpisodeError(f"Camera {camera.name!r}: the policy expects a picture {shape}, got {came}.")
            pictures.append(image)
        return torch.from_numpy(np.stack(pictures)).to(self.device)


def load_policy(
    path: str | Path, *, execute: int, device: str = "cpu", budget: Budget = UNLIMITED, part: str | None = None
) -> PolicyActor:
    """The trained policy at `path` (a checkpoint or a training run), ready to act. part: see `Policy.load`. Raises
    ConfigError."""
    policy = Policy.load(latest_checkpoint(Path(path)), device=device, part=part)
    return PolicyActor(policy, execute=execute, budget=budget)
