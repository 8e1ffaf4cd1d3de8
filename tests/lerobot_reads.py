"""Run by a python that has lerobot: reads a data set through it and stores what it saw, for comparison."""

import sys

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

HORIZON = 7

root, out = sys.argv[1:]
dataset = LeRobotDataset("volar/recorded", root=root)
chunked = LeRobotDataset(
    "volar/recorded", root=root, delta_timestamps={"action": [step / dataset.fps for step in range(HORIZON)]}
)
items = [dataset[index] for index in range(len(dataset))]
chunks = [chunked[index] for index in range(len(chunked))]
seen = {name: torch.stack([item[name] for item in items]).numpy() for name in items[0] if name != "task"}
pictures = {
    name.removeprefix("observation.images."): (seen.pop(name) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    for name in list(seen)
    if name.startswith("observation.images.")
}
np.savez(
    out,
    **seen,
    **pictures,
    task=np.array([item["task"] for item in items]),
    chunk=torch.stack([item["action"] for item in chunks]).numpy(),
    padded=torch.stack([item["action_is_pad"] for item in chunks]).numpy(),
    mean=dataset.meta.stats["action"]["mean"],
)
