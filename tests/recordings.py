"""Made-up episodes that a seed names, and a process that records them until it is killed."""

import sys
from pathlib import Path

import numpy as np

from volar.core.robot import ActionSpec, Camera, RobotSpec, Trajectory
from volar.data.writer import DatasetWriter

SPEC = RobotSpec(
    action=ActionSpec(
        names=("dx", "dy", "dz", "grip"), units=("m", "m", "m", "normalised"), low=(-1.0,) * 4, high=(1.0,) * 4,
        control="delta_position", rotation="none", gripper="positive_closes", frame="world", rate_hz=20.0,
    ),
    cameras=(Camera(name="front", height=24, width=32), Camera(name="wrist", height=18, width=18)),
    proprioception=("x", "y", "z"),
)  # fmt: skip
INSTRUCTIONS = ("open the faucet", "close the faucet", "push the puck")


def make_trajectory(seed: int, length: int | None = None) -> Trajectory:
    """Smooth pictures with a moving square; everything a function of the seed."""
    generator = np.random.default_rng(seed)
    steps = length or int(generator.integers(3, 12))

    def numbers(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    images = {}
    for camera in SPEC.cameras:
        rows, columns = np.mgrid[: camera.height, : camera.width]
        still = np.stack([100 + rows * 2, 80 + columns * 2, 200 - rows * 2], axis=-1).astype(np.uint8)
        film = np.repeat(still[None], steps, axis=0)
        for step in range(steps):
            film[step, 4:10, (step + seed) % 10 : (step + seed) % 10 + 6] = (230, 40, 60)
        images[camera.name] = film
    return Trajectory(
        images=images, proprioception=numbers(steps, 3), actions=numbers(steps, 4), executed=numbers(steps, 4),
        rewards=numbers(steps),
    )  # fmt: skip


def open_writer(root: Path, **changes: object) -> DatasetWriter:
    arguments = {
        "spec": SPEC, "fps": 20, "camera_storage": {"front": "video", "wrist": "image"}, "robot_type": "sawyer",
        "extra": {"renderer": "none"}, "resume": True,
    }  # fmt: skip
    return DatasetWriter(root, **(arguments | changes))  # type: ignore[arg-type]


def record(writer: DatasetWriter, seed: int) -> int:
    return writer.add(make_trajectory(seed), INSTRUCTIONS[seed % 3], source={"seed": seed, "success": True})


if __name__ == "__main__":
    with open_writer(Path(sys.argv[1])) as endless:
        while True:
            print(record(endless, endless.num_episodes), flush=True)
