"""What a training run has spent: FLOPs, seconds, joules, bytes; kept in compute.json and continued with the run."""

import json
import time
from pathlib import Path
from typing import Any

from volar.core.atomic import write_files
from volar.core.model import Batch
from volar.policies.compute import training_flops
from volar.policies.meter import EnergyMeter, hardware, peak_memory, reset_peak_memory
from volar.policies.vla import Policy

COUNT_EVERY = 500  # steps; one count is exact unless chunks become more or fewer tokens from batch to batch
FILE = "compute.json"


class Spending:
    """Begins when it is made. `resumed`: what `out` says was spent before is added."""

    def __init__(self, out: Path, policy: Policy, *, resumed: bool, processes: int) -> None:
        path = out / FILE
        self.before: dict[str, Any] = json.loads(path.read_text()) if resumed and path.is_file() else {}
        self.path, self.policy, self.processes = path, policy, processes
        self.device = next(policy.parameters()).device
        self.counted = int(self.before.get("counted_steps", 0))
        self.step_flops = float(self.before.get("step_flops", 0.0))
        self.started = time.perf_counter()
        self.meter = EnergyMeter()
        reset_peak_memory(self.device)

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.perf_counter() - self.started

    def due(self, step: int) -> bool:
        """Whether the step of this number should be counted."""
        return step % COUNT_EVERY == 0 or not self.counted

    def count(self, batch: Batch) -> None:
        """Take the FLOPs of one step on `batch` into the mean. Costs about three steps; the policy is left alone."""
        flops = training_flops(self.policy, batch).flops * self.processes
        self.step_flops = (self.step_flops * self.counted + flops) / (self.counted + 1)
        self.counted += 1

    def write(self, *, step: int, samples: int, facts: dict[str, Any]) -> None:
        """After `step` steps on `samples` samples. facts: what else belongs into the file."""
        sizes = [(each.numel(), each.requires_grad) for each in self.policy.parameters()]
        content = {
            "parameters": sum(size for size, _ in sizes),
            "trainable_parameters": sum(size for size, trainable in sizes if trainable),
            "training_steps": step,
            "training_samples": samples,
            "training_seconds": self.before.get("training_seconds", 0.0) + self.seconds,
            "training_flops": self.step_flops * step if self.counted else None,
            "step_flops": self.step_flops,
            "counted_steps": self.counted,
            "peak_memory_bytes": max(self.before.get("peak_memory_bytes") or 0, peak_memory(self.device) or 0) or None,
            "energy_joules": self._energy(),
            "energy_sources": list(self.meter.sources),
            "hardware": hardware(self.device),
            "processes": self.processes,
            **facts,
        }
        write_files({self.path: json.dumps(content, indent=1).encode()})

    def _energy(self) -> float | None:
        """Unknown as soon as a part of it is."""
        now, before = self.meter.joules(), self.before.get("energy_joules", None if self.before else 0.0)
        return None if now is None or before is None else now + before
