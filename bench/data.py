"""Random reads, recording and statistics of data sets, against lerobot where a python that has it is given.

    python bench/data.py [--peer-python PATH] [--out FILE.json]

Both read the same files, written here: shuffled, batch 32, action chunk of 50, two 96-pixel cameras, one thread, CPU
time (all threads of the process), interleaved, medians. Recording is measured on the same made-up episodes.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
import tyro
from torch.utils.data import DataLoader

from volar.core.robot import ActionSpec, Camera, RobotSpec, Trajectory
from volar.data.formats import open_dataset
from volar.data.normalize import exact_statistics
from volar.data.recording import Storage
from volar.data.streaming import StreamingStatistics
from volar.data.windows import WindowBatch, Windows
from volar.data.writer import DatasetWriter

SIDE, DIM, LENGTH, CHUNK, BATCH, FPS = 96, 14, 100, 50, 32, 30
SPEC = RobotSpec(
    action=ActionSpec(
        names=tuple(f"joint{i}" for i in range(DIM)), units=("rad",) * DIM, low=(-3.2,) * DIM, high=(3.2,) * DIM,
        control="joint_position", rotation="none", gripper="none", frame="none", rate_hz=FPS,
    ),
    cameras=tuple(Camera(name=name, height=SIDE, width=SIDE) for name in ("top", "wrist")),
    proprioception=tuple(f"joint{i}" for i in range(DIM)),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measure volar's data road, and lerobot's beside it."""

    peer_python: Path | None = None
    """a python that has lerobot 0.4.4"""
    episodes: int = 20
    """of 100 frames each"""
    samples: int = 2000
    """random reads per repeat (the peer reads a tenth of them from images)"""
    repeats: int = 5
    """of every measurement, interleaved with the peer's"""
    out: Path | None = None
    """where to write the figures as JSON"""


def film(seed: int) -> Trajectory:
    """A square on a noisy gradient, seen twice."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    still = np.stack([rows * 2, columns * 2, rows + columns], axis=-1)
    frames = np.clip(still + generator.integers(-4, 5, (LENGTH, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    for step in range(LENGTH):
        top, left = (int(40 + 30 * turn(step / 9 + seed)) for turn in (np.sin, np.cos))
        frames[step, top : top + 12, left : left + 12] = (220, 40, 40)
    joints = np.cumsum(generator.normal(0, 0.02, (LENGTH, DIM)), axis=0).astype(np.float32)
    return Trajectory(
        images={"top": frames, "wrist": frames[:, ::-1].copy()}, proprioception=joints, actions=joints,
        executed=joints, rewards=np.zeros(LENGTH, np.float32),
    )  # fmt: skip


def write(root: Path, storage: Storage | None, films: list[Trajectory]) -> tuple[float, float]:
    """Frames (both cameras; none without a storage) a second: CPU, wall."""
    cpu, wall = time.process_time(), time.perf_counter()
    cameras = {camera.name: storage for camera in SPEC.cameras} if storage else {}
    spec = SPEC if storage else replace(SPEC, cameras=())
    with DatasetWriter(root, spec=spec, fps=FPS, camera_storage=cameras, robot_type="bench", extra={}) as writer:
        for seed, trajectory in enumerate(films):
            writer.add(trajectory, f"task {seed % 3}", source={"seed": seed})
    frames = len(films) * LENGTH
    return frames / (time.process_time() - cpu), frames / (time.perf_counter() - wall)


def save_ms(root: Path) -> float:
    """CPU of saving an episode of 200 frames without cameras; the median of ten."""
    joints = np.random.default_rng(0).normal(size=(200, DIM)).astype(np.float32)
    trajectory = Trajectory(
        images={}, proprioception=joints, actions=joints, executed=joints, rewards=np.zeros(200, np.float32)
    )
    spent, spec = [], replace(SPEC, cameras=())
    with DatasetWriter(root, spec=spec, fps=FPS, camera_storage={}, robot_type="bench", extra={}) as writer:
        for seed in range(10):
            started = time.process_time()
            writer.add(trajectory, "task", source={"seed": seed})
            spent.append((time.process_time() - started) * 1e3)
    return float(np.median(spent))


def as_it_is(batch: WindowBatch) -> WindowBatch:
    return batch


def as_floats(batch: WindowBatch) -> list[torch.Tensor]:
    """What the peer hands out: float pictures in [0, 1], channels first."""
    return [torch.from_numpy(image).permute(0, 3, 1, 2).float().div_(255) for image in batch.images.values()]


def read(root: Path, samples: int, seed: int, *, decoded_bytes: int, collate: Callable, warm: bool = False) -> float:
    """Samples a second of CPU time."""
    dataset = open_dataset(root, decoded_bytes=decoded_bytes)
    windows = Windows(
        dataset, horizon=CHUNK, cameras=[camera.name for camera in dataset.cameras],
        episodes=range(len(dataset.episodes)), images=True, features=None,
    )  # fmt: skip
    if warm:
        windows.__getitems__(range(len(windows)))
    else:
        windows.__getitems__(range(BATCH))  # opening files and decoders is not what is measured
    loader = DataLoader(
        windows, batch_size=BATCH, shuffle=True, collate_fn=collate, generator=torch.Generator().manual_seed(seed)
    )
    seen, started = 0, time.process_time()
    while seen < samples:
        for _ in loader:
            seen += BATCH
            if seen >= samples:
                break
    return seen / (time.process_time() - started)


def peer(python: Path, *arguments: object) -> dict[str, float]:
    script = Path(__file__).with_name("data_peer.py")
    done = subprocess.run([python, script, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"The peer failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def statistics_ms() -> float:
    values = np.random.default_rng(0).normal(size=(100_000, DIM)).astype(np.float32)
    started = time.process_time()
    exact_statistics(values)
    return (time.process_time() - started) * 1e3


def streaming_ms() -> float:
    """In parts of 1,000 rows, as the peer takes them; the rank error is 0.07 %."""
    values = np.random.default_rng(0).normal(size=(100_000, DIM)).astype(np.float32)
    started = time.process_time()
    streaming = StreamingStatistics(DIM)
    for part in np.split(values, 100):
        streaming.update(part)
    streaming.sketch.quantiles([0.01, 0.1, 0.5, 0.9, 0.99])
    return (time.process_time() - started) * 1e3


def main(arguments: Arguments) -> None:
    torch.set_num_threads(1)
    films = [film(seed) for seed in range(arguments.episodes)]
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)
        print(f"{name:58s} {value:10.1f}", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        stored: tuple[Storage, ...] = ("image", "jpeg", "video")
        roots = {storage: Path(scratch) / storage for storage in stored}
        for storage, root in roots.items():
            cpu, wall = write(root, storage, films)
            note(f"write {storage}, frames/s cpu, volar", cpu)
            note(f"write {storage}, frames/s wall, volar", wall)
            size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
            note(f"write {storage}, bytes per frame, volar", size / len(films) / LENGTH)
        write(Path(scratch) / "state", None, films)
        for repeat in range(arguments.repeats):
            state, many = Path(scratch) / "state", 20 * arguments.samples
            note(
                "read state only, samples/s cpu, volar",
                read(state, many, repeat, decoded_bytes=0, collate=as_it_is),
            )
            note("save 200 frames without cameras, ms cpu, volar", save_ms(Path(scratch) / f"saved-{repeat}"))
            if arguments.peer_python:
                note(
                    "read state only, samples/s cpu, peer",
                    peer(arguments.peer_python, "read", state, arguments.samples // 2, repeat, CHUNK, BATCH)[
                        "samples_per_s"
                    ],
                )
            for storage, root in roots.items():
                reading = {"samples": arguments.samples, "seed": repeat}
                note(f"read {storage}, samples/s cpu, volar", read(root, decoded_bytes=0, collate=as_it_is, **reading))
                note(
                    f"read {storage} as floats, samples/s cpu, volar",
                    read(root, decoded_bytes=0, collate=as_floats, **reading),
                )
                note(
                    f"read {storage} decoded before, samples/s cpu, volar",
                    read(root, decoded_bytes=2**30, collate=as_it_is, warm=True, **reading),
                )
                if arguments.peer_python:
                    samples = arguments.samples // (2 if storage == "video" else 10)
                    note(
                        f"read {storage} as floats, samples/s cpu, peer",
                        peer(arguments.peer_python, "read", root, samples, repeat, CHUNK, BATCH)["samples_per_s"],
                    )
            note("statistics of 100k x 14, ms cpu, volar", statistics_ms())
            note("statistics of 100k x 14 in one pass, ms cpu, volar", streaming_ms())
        if arguments.peer_python:
            for name, value in peer(arguments.peer_python, "write", Path(scratch) / "peer", 4).items():
                note(name, value)
    medians = {name: float(np.median(values)) for name, values in figures.items()}
    print("\nmedians")
    for name, value in medians.items():
        print(f"{name:58s} {value:10.1f}")
    if arguments.out:
        arguments.out.write_text(json.dumps({"medians": medians, "all": figures}, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
