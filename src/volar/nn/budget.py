"""Counts and times the evaluations of a network, so that a decoder knows how many more its budget allows."""

from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

import torch

from volar.core.model import Budget

Inputs = ParamSpec("Inputs")
Answer = TypeVar("Answer")


class Metered(Generic[Inputs, Answer]):
    """A function, each call of which is one evaluation, that keeps account of its own calls. One per chunk: the
    budget's seconds run from its construction."""

    def __init__(self, function: Callable[Inputs, Answer], budget: Budget, device: torch.device) -> None:
        self.function, self.budget, self.device = function, budget, device
        self.evaluations = 0
        self._slowest = 0.0
        self._begin = self._now()

    def __call__(self, *inputs: Inputs.args, **options: Inputs.kwargs) -> Answer:
        begin = self._now()
        answer = self.function(*inputs, **options)
        self._slowest = max(self._slowest, self._now() - begin)
        self.evaluations += 1
        return answer

    def left(self) -> int | None:
        """Evaluations that still fit if they take as long as the slowest so far; None when nothing limits them."""
        limits = []
        if self.budget.evaluations is not None:
            limits.append(self.budget.evaluations - self.evaluations)
        if self.budget.seconds is not None:
            remaining = self.budget.seconds - (self._now() - self._begin)
            if remaining <= 0:
                limits.append(0)
            elif self._slowest > 0:
                limits.append(int(remaining / self._slowest))
        return min(limits, default=None)

    def _now(self) -> float:
        if self.budget.seconds is None:
            return 0.0
        if self.device.type == "cuda":  # its work is queued: without waiting, only the queueing would be timed
            torch.cuda.synchronize(self.device)
        return self.budget.clock()
