"""The other half of bench/data.py; run by a python that has lerobot. Prints one line of JSON."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from lerobot.datasets.compute_stats import RunningQuantileStats
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from torch.utils.data import DataLoader


def read(root: str, samples: int, seed: int, chunk: int, batch: int) -> dict[str, float]:
    fps = json.loads((Path(root) / "meta/info.json").read_text())["fps"]
    dataset = LeRobotDataset("bench/read", root=root, delta_timestamps={"action": [i / fps for i in range(chunk)]})
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(dataset, batch_size=batch, shuffle=True, generator=generator)
    for index in range(4):
        dataset[index]
    seen, started = 0, time.process_time()
    for _ in loader:
        seen += batch
        if seen >= samples:
            break
    return {"samples_per_s": seen / (time.process_time() - started)}


def save_ms(root: Path) -> float:
    joints = {"dtype": "float32", "shape": (14,), "names": [f"joint{i}" for i in range(14)]}
    features = {"observation.state": joints, "action": joints}
    dataset = LeRobotDataset.create("bench/state", fps=30, features=features, root=root, use_videos=False)
    generator, spent = np.random.default_rng(0), []
    for _ in range(10):
        for _ in range(200):
            numbers = generator.normal(size=14).astype(np.float32)
            dataset.add_frame({"observation.state": numbers, "action": numbers, "task": "task"})
        started = time.process_time()
        dataset.save_episode()
        spent.append((time.process_time() - started) * 1e3)
    dataset.finalize()
    return float(np.median(spent))


def write(root: str, episodes: int) -> dict[str, float]:
    figures = {}
    for storage in ("image", "video"):
        camera = {"dtype": storage, "shape": (96, 96, 3), "names": ["height", "width", "channels"]}
        joints = {"dtype": "float32", "shape": (14,), "names": [f"joint{i}" for i in range(14)]}
        features = {
            "observation.images.top": camera, "observation.images.wrist": camera, "observation.state": joints,
            "action": joints,
        }  # fmt: skip
        generator = np.random.default_rng(0)
        rows, columns = np.mgrid[:96, :96]
        still = np.stack([rows * 2, columns * 2, rows + columns], axis=-1)
        noisy = np.clip(still + generator.integers(-4, 5, (100, 96, 96, 3)), 0, 255).astype(np.uint8)
        cpu, wall = time.process_time(), time.perf_counter()
        dataset = LeRobotDataset.create(
            f"bench/{storage}", fps=30, features=features, root=Path(root) / storage, use_videos=storage == "video"
        )
        for _ in range(episodes):
            for frame in noisy:
                numbers = generator.normal(size=14).astype(np.float32)
                dataset.add_frame(
                    {"observation.images.top": frame, "observation.images.wrist": frame[::-1].copy(),
                     "observation.state": numbers, "action": numbers, "task": "task"}
                )  # fmt: skip
            dataset.save_episode()
        dataset.finalize()
        frames = episodes * 100
        figures[f"write {storage}, frames/s cpu, peer"] = frames / (time.process_time() - cpu)
        figures[f"write {storage}, frames/s wall, peer"] = frames / (time.perf_counter() - wall)
    figures["save 200 frames without cameras, ms cpu, peer"] = save_ms(Path(root) / "state")
    values = generator.normal(size=(100_000, 14))
    started = time.process_time()
    running = RunningQuantileStats()
    for part in np.split(values, 100):
        running.update(part)
    running.get_statistics()
    figures["statistics of 100k x 14, ms cpu, peer"] = (time.process_time() - started) * 1e3
    return figures


if __name__ == "__main__":
    torch.set_num_threads(1)
    command, root, *numbers = sys.argv[1:]
    print(json.dumps({"read": read, "write": write}[command](root, *map(int, numbers))))
