"""What the machine itself tells while a policy works: energy, peak memory, and its own name. None where it is silent.

Energy counters see the whole machine, everybody's processes included.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")
PROCESS = Path("/proc/self")
NVML_SUCCESS = 0


@dataclass(frozen=True)
class EnergyCounter:
    """read: joules since some moment. wraps: joules at which the counter begins anew."""

    name: str
    read: Callable[[], float]
    wraps: float


def energy_counters(powercap: Path = POWERCAP) -> tuple[EnergyCounter, ...]:
    """Every counter that this process may read: RAPL's processor packages and memory, NVML's visible GPUs."""
    return (*_rapl(powercap), *_nvml())


class EnergyMeter:
    """Joules since it was made. A counter may wrap once between two readings (RAPL: after some 40 minutes of full
    load), so read it now and then in a long run."""

    def __init__(self, counters: Sequence[EnergyCounter] | None = None) -> None:
        self.counters = tuple(energy_counters() if counters is None else counters)
        self._last = [counter.read() for counter in self.counters]
        self._total = 0.0

    @property
    def sources(self) -> tuple[str, ...]:
        """What is included; a GPU without its processor is only part of the bill."""
        return tuple(counter.name for counter in self.counters)

    def joules(self) -> float | None:
        """None where nothing may be read."""
        if not self.counters:
            return None
        now = [counter.read() for counter in self.counters]
        for counter, before, after in zip(self.counters, self._last, now, strict=True):
            self._total += after - before + (counter.wraps if after < before else 0.0)
        self._last = now
        return self._total


def reset_peak_memory(device: torch.device) -> None:
    """Begin anew, where the system lets a process do so (CUDA, most Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError:  # not Linux, or a sandbox: then the peak is that of the whole process
        return


def peak_memory(device: torch.device) -> int | None:
    """Bytes: largest allocation on a GPU, else the largest resident size of this process, libraries included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = (PROCESS / "status").read_text()
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource  # there is none on Windows

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def hardware(device: torch.device) -> str:
    """For a reader, such as `Intel Xeon 6975P-C, 2 threads` or `NVIDIA H200`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} of {os.cpu_count()} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _rapl(powercap: Path) -> list[EnergyCounter]:
    found = []
    for folder in sorted(powercap.glob("intel-rapl:*")):  # AMD's processors stand under the same name
        try:
            name = (folder / "name").read_text().strip()
            if not name.startswith(("package", "dram")):  # core and uncore are parts of the package
                continue
            wraps = int((folder / "max_energy_range_uj").read_text()) / 1e6
            read = _reader(folder / "energy_uj")
            read()
        except OSError:  # readable by root only on most machines since 2020
            continue
        found.append(EnergyCounter(name=name, read=read, wraps=wraps))
    return found


def _reader(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text()) / 1e6


def _nvml() -> list[EnergyCounter]:
    """The energy that each visible GPU has used since its driver was loaded (Volta and newer)."""
    if not torch.cuda.is_available():
        return []
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    if library.nvmlInit_v2() != NVML_SUCCESS:
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        handle = ctypes.c_void_p()
        uuid = f"GPU-{torch.cuda.get_device_properties(index).uuid}".encode()
        if library.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)) != NVML_SUCCESS:
            continue
        read = _gpu_reader(library, handle)
        if read() > 0:
            found.append(EnergyCounter(name=f"GPU {index}", read=read, wraps=2**64 / 1e3))
    return found


def _gpu_reader(library: ctypes.CDLL, handle: ctypes.c_void_p) -> Callable[[], float]:
    def read() -> float:
        millijoules = ctypes.c_ulonglong()
        library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        return millijoules.value / 1e3

    return read
