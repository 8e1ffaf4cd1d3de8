"""Synthetic motions with a known generator: smooth joints through random points, a gripper that switches."""

import numpy as np
from scipy.interpolate import CubicSpline


def smooth_motions(
    count: int, *, steps: int, joints: int = 6, knots: int = 6, noise: float = 0.0, seed: int = 0
) -> np.ndarray:
    """[count steps joints + 1]: cubic splines through `knots` points uniform in -1..1 at equal times, and a gripper
    that goes from one end to the other once at a uniform time. noise: standard deviation, on all dimensions."""
    random = np.random.default_rng(seed)
    points = random.uniform(-1, 1, size=(knots, count * joints))
    curves = CubicSpline(np.linspace(0, 1, knots), points)(np.linspace(0, 1, steps))
    smooth = curves.reshape(steps, count, joints).transpose(1, 0, 2)
    switch = random.uniform(size=(count, 1))
    sign = random.choice([-1.0, 1.0], size=(count, 1))
    gripper = np.where(np.linspace(0, 1, steps) < switch, sign, -sign)[..., None]
    motions = np.concatenate([smooth, gripper], axis=-1)
    return (motions + noise * random.normal(size=motions.shape)).astype(np.float32)
