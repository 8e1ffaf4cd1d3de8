"""Does `compact` learn which object a word names? Two discs on a noisy table, "move to the red one", answer: where.

Run: OMP_NUM_THREADS=1 python bench/binding.py (minutes; needs `volar weights install`). Variants switch off one road of
the instruction each: FiLM on the patches, or the goal added to the tokens that continue the context. Guessing one of
the two discs is right in half of the scenes.
"""

import argparse
import json
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from volar.backbones.compact import Compact
from volar.core.model import Batch
from volar.core.robot import Camera
from volar.nn.transformer import full_mask

SIDE, RADIUS, HELD_OUT = 112, 8, 500
COLOURS = {
    "red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 70, 220), "yellow": (230, 210, 40),
    "purple": (150, 50, 180), "white": (240, 240, 240),
}  # fmt: skip
CAMERA = Camera(name="table", height=SIDE, width=SIDE)
VARIANTS = {"both": (1.0, 1.0), "film only": (1.0, 0.0), "goal only": (0.0, 1.0), "neither": (0.0, 0.0)}


@dataclass(frozen=True)
class Scenes:
    """features [n 64 384]; centres [n 2 2] in -1..1, the named disc first."""

    features: Tensor
    instructions: tuple[str, ...]
    centres: Tensor

    def batch(self, rows: Tensor) -> Batch:
        return Batch(
            images={},
            features={CAMERA.name: self.features[rows]},
            instructions=tuple(self.instructions[row] for row in rows.tolist()),
            proprioception=torch.zeros(len(rows), 1),
        )


class Weighted(nn.Module):
    """The FiLM network with its outputs (scale and shift; goal) multiplied by a constant."""

    def __init__(self, network: nn.Module, film: float, goal: float) -> None:
        super().__init__()
        self.network, self.film, self.goal = network, film, goal

    def forward(self, sentence: Tensor) -> Tensor:
        scale, shift, goal = self.network(sentence).chunk(3, dim=-1)
        return torch.cat([self.film * scale, self.film * shift, self.goal * goal], dim=-1)


def make_scenes(count: int, backbone: Compact) -> Scenes:
    generator = torch.Generator().manual_seed(0)
    images = 110 + torch.randint(0, 12, (count, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    centres = torch.rand(count, 2, 2, generator=generator) * (SIDE - 28) + 14
    colours = torch.stack([torch.randperm(len(COLOURS), generator=generator)[:2] for _ in range(count)])
    palette = torch.tensor(list(COLOURS.values()), dtype=torch.uint8)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    for disc in range(2):
        across, down = centres[:, disc, 0, None, None], centres[:, disc, 1, None, None]
        inside = (x - across) ** 2 + (y - down) ** 2 < RADIUS**2
        images = torch.where(inside[..., None], palette[colours[:, disc]][:, None, None], images)
    names = list(COLOURS)
    instructions = tuple(f"move to the {names[first]} one" for first in colours[:, 0].tolist())
    features = torch.cat([backbone.features(part) for part in images.split(50)])
    return Scenes(features, instructions, centres / (SIDE / 2) - 1)


def learn(backbone: Compact, scenes: Scenes, steps: int) -> dict[str, float]:
    """Mean absolute error (half picture widths) and share of held-out answers nearer to the named disc."""
    torch.manual_seed(0)
    query, read = nn.Parameter(0.5 * torch.randn(1, 1, backbone.width)), nn.Linear(backbone.width, 2)
    trained = [value for value in backbone.parameters() if value.requires_grad] + [query, *read.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.1)
    first_held_out = len(scenes.instructions) - HELD_OUT

    def point(rows: Tensor) -> Tensor:
        new = query.expand(len(rows), -1, -1)
        return read(backbone.encode(scenes.batch(rows)).extend(new, full_mask(1)).hidden)[:, 0]

    started = time.process_time()
    for _ in range(steps):
        rows = torch.randint(0, first_held_out, (64,))
        loss = (point(rows) - scenes.centres[rows, 0]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    rows = torch.arange(first_held_out, len(scenes.instructions))
    with torch.no_grad():
        distance = (point(rows)[:, None] - scenes.centres[rows]).norm(dim=-1)
        error = (point(rows) - scenes.centres[rows, 0]).abs().mean().item()
    right = (distance[:, 0] < distance[:, 1]).float().mean().item()
    return {"error": round(error, 3), "right": round(right, 3), "cpu_seconds": round(time.process_time() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=3000, help=f"of which the last {HELD_OUT} are held out")
    parser.add_argument("--steps", type=int, default=400, help="of batch 64")
    arguments = parser.parse_args()
    scenes: Scenes | None = None
    for depth in (2, 4):
        for name, (film, goal) in VARIANTS.items():
            torch.manual_seed(1)
            backbone = Compact(Compact.Config(depth=depth), cameras=(CAMERA,), proprioception=1)
            scenes = scenes or make_scenes(arguments.scenes, backbone)
            backbone.film = nn.Sequential(Weighted(backbone.film, film, goal))
            row = {"depth": depth, "instruction": name, **learn(backbone, scenes, arguments.steps)}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
