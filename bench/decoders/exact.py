"""The control arm of equilibrium matching: the field that perfect training would give, in closed form.

The data are the demonstrations' chunks in the situations most like the present one; nothing is learned, so whatever
this arm shows cannot come from an ill-trained field.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from volar.core.model import Budget
from volar.core.robot import BatchActor, Chunk, Observation
from volar.data.lerobot import open_dataset
from volar.data.windows import Windows
from volar.decoders.equilibrium import Equilibrium
from volar.nn.equilibrium import exact_field
from volar.policies.vla import Policy

NEIGHBOURS = 48  # situations of the same instruction that stand for the present one
NEAR = 8  # the distance to this neighbour is the kernel's width


class ExactField(BatchActor):
    """Normalises and descends as `policy`, an equilibrium policy, does; its network is never asked."""

    uses_images = False

    def __init__(self, policy: Policy, data: Path, *, execute: int, budget: Budget) -> None:
        assert isinstance(policy.decoder, Equilibrium)
        self.policy, self.decoder, self.execute, self.budget = policy, policy.decoder, execute, budget
        dataset = open_dataset(data)
        windows = Windows(dataset, horizon=policy.config.horizon, cameras=(), images=False, features=None,
                          episodes=tuple(range(len(dataset.episodes))))  # fmt: skip
        raw = windows.__getitems__(list(range(len(windows))))
        self.chunks = torch.as_tensor(policy.normalize_action.normalize(raw.actions), dtype=torch.float32)
        self.states = torch.as_tensor(self._normalised(raw.proprioception), dtype=torch.float32)
        self.instructions = np.array(raw.instructions)
        self.generator = torch.Generator()

    def reset(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def act_many(self, rows: Sequence[int], observations: Sequence[Observation]) -> list[Chunk]:
        return [self._decide(observation) for observation in observations]

    def _decide(self, observation: Observation) -> Chunk:
        started = time.perf_counter()
        known = np.flatnonzero(self.instructions == observation.instruction)
        here = torch.as_tensor(self._normalised(observation.proprioception), dtype=torch.float32)
        distances, nearest = (self.states[known] - here).norm(dim=-1).topk(NEIGHBOURS, largest=False)
        bank = self.chunks[known[nearest.numpy()]]
        weights = torch.exp(-0.5 * (distances / distances[NEAR - 1].clamp(min=1e-3)).square())[None]

        def field(chunks: Tensor, moment: Tensor) -> Tensor:
            return exact_field(chunks, bank, weights, decay=self.decoder.config.decay)

        with torch.inference_mode():
            sample = self.decoder.solve(
                field, rows=1, device=torch.device("cpu"), generator=self.generator, budget=self.budget
            )
        actions = self.policy.normalize_action.denormalize(sample.actions[0].numpy()).astype(np.float32)
        strangeness = None if sample.strangeness is None else float(sample.strangeness[0])
        return Chunk(actions=actions, execute=self.execute, evaluations=int(sample.evaluations[0]),
                     latency=time.perf_counter() - started, strangeness=strangeness)  # fmt: skip

    def _normalised(self, states: np.ndarray) -> np.ndarray:
        return np.clip(self.policy.normalize_proprioception.normalize(states), -5, 5)
