"""What a run needs to go on: raw and averaged weights and the optimiser's moments, as one safetensors file."""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from volar.core.errors import ConfigError

KEEP = 2  # the newest state could be damaged by a dying disk; the one before it costs little


class Average:
    """Exponential moving average of the trainable weights, with a short memory at the start."""

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.values = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        names = list(self.values)
        torch._foreach_lerp_([self.values[n] for n in names], [self.parameters[n].detach() for n in names], weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the model carries the averaged weights."""
        raw = {name: value.detach().clone() for name, value in self.parameters.items()}
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(self.values[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self.parameters.items():
                    value.copy_(raw[name])


@contextmanager
def stop_at_next_step() -> Iterator[Callable[[], bool]]:
    """Ctrl-C inside the block is answered between two steps, never in the middle of one; a second one is at once."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only there can a handler be set
        yield lambda: False
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: object) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


def save_state(
    out: Path, step: int, parameters: Mapping[str, Tensor], average: Average, optimizer: torch.optim.Optimizer
) -> None:
    """Write state/step-*.safetensors atomically and remove all but the newest two."""
    folder = out / "state"
    folder.mkdir(exist_ok=True)
    tensors = {f"weight/{name}": value.detach().contiguous() for name, value in parameters.items()}
    tensors |= {f"average/{name}": value.contiguous() for name, value in average.values.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value).contiguous() for key, value in moments.items()}
    partial = folder / ".partial"
    save_file(tensors, partial)
    os.replace(partial, folder / f"step-{step:07d}.safetensors")
    for old in sorted(folder.glob("step-*.safetensors"))[:-KEEP]:
        old.unlink()


def newest_state(out: Path) -> Path | None:
    return max((out / "state").glob("step-*.safetensors"), default=None)


def load_state(path: Path, parameters: Mapping[str, Tensor], average: Average, optimizer: torch.optim.Optimizer) -> int:
    """Put everything back; returns the step. ConfigError when the file is damaged or of another policy."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); delete it to go on from the state before it.") from error
    moments: dict[int, dict[str, Tensor]] = {}
    try:
        with torch.no_grad():
            for name, value in parameters.items():
                value.copy_(tensors[f"weight/{name}"])
                average.values[name].copy_(tensors[f"average/{name}"])
    except (KeyError, RuntimeError) as error:
        raise ConfigError(f"{path} belongs to another policy: {error}") from error
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    match = re.search(r"step-(\d+)", path.name)
    assert match
    return int(match.group(1))
