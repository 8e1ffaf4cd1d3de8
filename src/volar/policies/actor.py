"""A policy as an Actor: observation in the robot's units -> Batch -> normalised chunk -> Chunk in the robot's units."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from volar.core.errors import ConfigError, EpisodeError
from volar.core.model import UNLIMITED, Batch, Budget, WarmStart, WarmStartDecoder
from volar.core.robot import BatchActor, Camera, Chunk, Observation
from volar.core.thoughts import Recall, Thought
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
        self.recalls: dict[int, Recall] = {}  # episode -> its last look, where the policy reasons
        action = policy.robot.action
        named = [index for index, name in enumerate(action.names) if "grip" in name]
        self._gripper = named if action.gripper != "none" else []
        self._middle = np.array([(action.low[index] + action.high[index]) / 2 for index in self._gripper])
        self._sides: dict[int, np.ndarray] = {}  # episode -> on which side of the middle the gripper was sent last

    def reset(self, seed: int) -> None:
        self.generator.manual_seed(seed)
        self.left.clear()
        self.recalls.clear()
        self._sides.clear()

    def act_many(self, rows: Sequence[int], observations: Sequence[Observation]) -> list[Chunk]:
        """Every chunk's latency is that of the whole batch: this is how long its episode had to wait."""
        return self.act_given(rows, observations, [None] * len(rows))

    def act_given(
        self, rows: Sequence[int], observations: Sequence[Observation], given: Sequence[Thought | None]
    ) -> list[Chunk]:
        """The same when a person or an oracle thinks in the policy's place. ConfigError where it does not reason."""
        started = time.perf_counter()
        with torch.inference_mode():
            batch, start = self.batch(observations), self._start(rows) if self.warm else None
            recalls = [self.recalls.get(row) for row in rows]
            considered = self.policy.consider(batch, recalls=recalls, given=given, generator=self.generator)
            sample = self.policy.decode(considered.context, generator=self.generator, budget=self.budget, start=start)
        if self.warm:
            self.left.update(zip(rows, sample.actions[:, self.execute :], strict=True))
        actions = self.normalizers.action.denormalize(sample.actions.cpu().numpy()).astype(np.float32)
        latency = time.perf_counter() - started
        thoughts = considered.thoughts or [None] * len(rows)
        strangeness = [None] * len(rows) if sample.strangeness is None else sample.strangeness.tolist()
        spent = (considered.evaluations + sample.evaluations).tolist()
        for row, chunk, thought in zip(rows, actions, thoughts, strict=True):
            if thought is not None:
                self.recalls[row] = Recall(thought=thought, event=self._event(row, chunk[: self.execute]))
        return [
            Chunk(
                actions=chunk,
                execute=self.execute,
                evaluations=evaluations,
                latency=latency,
                strangeness=strange,
                thought=thought,
            )
            for chunk, evaluations, strange, thought in zip(actions, spent, strangeness, thoughts, strict=True)
        ]

    def _event(self, row: int, carried_out: np.ndarray) -> bool:
        """Whether the gripper's command changes sides in these actions, or did between the last ones and these."""
        sides = carried_out[:, self._gripper] > self._middle
        before = self._sides.get(row, sides[0])
        self._sides[row] = sides[-1]
        return bool((sides != before).any())

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
