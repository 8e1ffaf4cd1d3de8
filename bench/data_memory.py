"""Reads random windows for minutes and tells the memory of the process: it must not grow. One line of JSON a data set.

python bench/data_memory.py [--minutes 1]: for each of a set stored as video, as images, and as images opened lazily
with more numbers than a lazily opened set keeps. Linux (/proc). Memory is the resident set, MiB, the median of looks
in a tenth of the time: the second tenth (caches are full by then), the middle and the last.
"""

import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from recordings import make_trajectory, open_writer

from volar.data import dataset as dataset_module
from volar.data.formats import open_dataset
from volar.data.windows import Windows

EPISODES, LENGTH, BATCH, CHUNK = 60, 50, 32, 10
KEPT_BYTES = 2**15  # of numbers, of the lazily opened set: about an eighth of them


def resident_mib() -> float:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def read(root: Path, name: str, seconds: float) -> None:
    lazy = "lazy" in name
    if lazy:
        dataset_module.NUMBER_BYTES = KEPT_BYTES
    data = open_dataset(root, decoded_bytes=0, lazy=lazy)
    windows = Windows(
        data, horizon=CHUNK, cameras=("front", "wrist"), episodes=range(EPISODES), images=True, features={}
    )
    drawn, looks, batches = np.random.default_rng(0), [], 0
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        windows.__getitems__(drawn.integers(len(windows), size=BATCH).tolist())
        batches += 1
        looks.append((passed / seconds, resident_mib()))
    tenths = {"start": 0.1, "middle": 0.45, "end": 0.9}
    mib = {
        when: round(float(np.median([size for part, size in looks if first <= part < first + 0.1])), 1)
        for when, first in tenths.items()
    }
    print(json.dumps({"stored": name, "seconds": round(seconds), "windows": batches * BATCH, "MiB": mib}), flush=True)


def main(minutes: float = 1.0) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("video", "image", "image, lazy"):
            root = Path(scratch) / name.replace(", ", "-")
            with open_writer(root, camera_storage=dict.fromkeys(("front", "wrist"), name.split(",")[0])) as writer:
                for seed in range(EPISODES):
                    writer.add(make_trajectory(seed, LENGTH), "push the puck", source={"seed": seed})
            arguments = (root, name, minutes * 60)
            process = multiprocessing.get_context("spawn").Process(target=read, args=arguments)
            process.start()
            process.join()


if __name__ == "__main__":
    tyro.cli(main)
