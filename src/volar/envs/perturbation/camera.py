"""The camera axis: every camera that stands still has been moved on a sphere around the point it looks at."""

import math

import numpy as np
from scipy.spatial.transform import Rotation

from volar.core.errors import ConfigError
from volar.envs.perturbation.axis import PictureAxis
from volar.envs.perturbation.world import PerturbableWorld

FARTHEST = 2.0  # metres ahead, for a camera that looks past the table


class CameraPose(PictureAxis):
    """A camera that rides on the robot stays as it is."""

    sizes = (3.0, 6.0, 10.0, 15.0, 20.0)
    unit = "degrees"
    says = "cameras stand elsewhere on a sphere around the point of the table that they look at"

    def paint(self, world: PerturbableWorld, seed: int) -> None:
        model = world.model
        standing = [camera for camera in range(model.ncam) if model.cam_bodyid[camera] == 0]
        shown = {camera.name for camera in world.spec.cameras}
        if shown and not shown & {model.camera(camera).name for camera in standing}:
            raise ConfigError(f"{', '.join(sorted(shown))} ride on the robot: the axis camera moves those that stand.")
        for camera, side in zip(standing, self.random(seed).uniform(0, 2 * math.pi, len(standing)), strict=True):
            place, pose = model.cam_pos[camera].copy(), _rotation(model.cam_quat[camera])
            ahead = pose.apply([0.0, 0.0, -1.0])
            far = min(-place[2] / ahead[2], FARTHEST) if ahead[2] < 0 < place[2] else FARTHEST
            turn = Rotation.from_rotvec(math.radians(self.size) * pose.apply([math.cos(side), math.sin(side), 0.0]))
            target = place + far * ahead
            model.cam_pos[camera] = target + turn.apply(place - target)
            model.cam_quat[camera] = np.roll((turn * pose).as_quat(), 1)


def _rotation(wxyz: np.ndarray) -> Rotation:
    return Rotation.from_quat(np.roll(wxyz, -1))
