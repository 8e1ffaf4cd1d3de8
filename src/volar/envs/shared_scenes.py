"""Meta-World tasks started from one common scene, so that the same seed gives the same picture, pixel for pixel, and
nothing but the instruction says what to do. Not part of the published benchmark.

As shipped no two tasks do so: faucets stand in different ranges, drawers and windows start open or closed, and
coloured spheres mark each task's goal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

SUFFIX = "-shared"


@dataclass(frozen=True, kw_only=True)
class SharedScene:
    """low, high: metres, where the object's base is placed, the part of both tasks' own ranges that they have in
    common. joints: position at the start. Goal markers are hidden; the simulator's success conditions stay."""

    tasks: tuple[str, ...]
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    joints: Mapping[str, float] = field(default_factory=dict)


SCENES = (
    SharedScene(tasks=("faucet-open", "faucet-close"), low=(-0.05, 0.8, 0.0), high=(0.05, 0.85, 0.0)),
    SharedScene(
        tasks=("drawer-open", "drawer-close"), low=(-0.1, 0.9, 0.0), high=(0.1, 0.9, 0.0),
        joints={"goal_slidey": -0.1},  # of -0.16, which is fully open
    ),
    SharedScene(
        tasks=("window-open", "window-close"), low=(0.0, 0.75, 0.16), high=(0.1, 0.9, 0.16),
        joints={"window_slide": 0.1},  # of 0.2, which is fully open
    ),
)  # fmt: skip


def scene_of(task: str) -> SharedScene | None:
    """The scene of `faucet-open-shared` and its like; None for a task of the benchmark."""
    if not task.endswith(SUFFIX):
        return None
    return next(scene for scene in SCENES if task.removesuffix(SUFFIX) in scene.tasks)
