"""Milliseconds of the compact backbone: acting on one picture, and training on cached features.

Run: OMP_NUM_THREADS=1 python bench/backbones.py (set the threads outside; needs `volar weights install`).
Training = encode from cached features + 8 new tokens through the trunk + an L1 loss, forward and backward.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from volar.backbones.compact import Compact
from volar.core.model import Batch
from volar.core.robot import Camera
from volar.nn.transformer import full_mask

CAMERA = Camera(name="front", height=112, width=112)
SENTENCES = ("open the faucet", "close the faucet", "open the drawer", "press the button from the top", "push the puck")


def median_ms(call: Callable[[], object], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return round(statistics.median(times), 1)


def make_batch(size: int, features: torch.Tensor | None) -> Batch:
    images = (
        {} if features is not None else {CAMERA.name: torch.randint(0, 256, (size, 112, 112, 3), dtype=torch.uint8)}
    )
    return Batch(
        images=images,
        features={} if features is None else {CAMERA.name: features},
        instructions=tuple(SENTENCES[index % len(SENTENCES)] for index in range(size)),
        proprioception=torch.randn(size, 4),
    )


def measure(width: int, depth: int, batch_size: int, repeats: int) -> dict[str, float]:
    config = Compact.Config(width=width, depth=depth)
    backbone = Compact(config, cameras=(CAMERA,), proprioception=4)
    queries = torch.randn(1, 8, width)
    trainable = [value for value in backbone.parameters() if value.requires_grad]

    def act(batch: Batch) -> None:
        with torch.inference_mode():
            backbone.encode(batch).extend(queries, full_mask(8))

    def step(batch: Batch) -> None:
        hidden = backbone.encode(batch).extend(queries.expand(batch_size, -1, -1), full_mask(8)).hidden
        torch.autograd.grad(hidden.abs().mean(), trainable, allow_unused=True)

    one, cached = make_batch(1, None), make_batch(1, torch.randn(1, 64, 384))
    many = make_batch(batch_size, torch.randn(batch_size, 64, 384))
    return {
        "width": width,
        "depth": depth,
        "trainable_parameters": sum(value.numel() for value in trainable),
        "act_ms": median_ms(lambda: act(one), repeats),
        "act_cached_features_ms": median_ms(lambda: act(cached), repeats),
        "train_step_ms": median_ms(lambda: step(many), max(3, repeats // 4)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128, help="samples in a training step")
    parser.add_argument("--repeats", type=int, default=20, help="acting is timed so often, training a quarter of it")
    arguments = parser.parse_args()
    for width in (128, 192, 256):
        for depth in (2, 4):
            row = measure(width, depth, arguments.batch, arguments.repeats)
            print(json.dumps({**row, "threads": torch.get_num_threads(), "batch": arguments.batch}), flush=True)


if __name__ == "__main__":
    main()
