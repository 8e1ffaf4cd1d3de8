"""The light axis: lamps are brighter or darker, tinted, and shine from elsewhere."""

import math

import numpy as np
from scipy.spatial.transform import Rotation

from volar.envs.perturbation.axis import PictureAxis
from volar.envs.perturbation.world import PerturbableWorld

TINT = 0.3  # of the change of brightness, at most, by which a colour of the light goes its own way
TILT = 60.0  # degrees by which lamps are turned where the brightness changes by all of it


class Light(PictureAxis):
    """Colours of objects stay what instructions call them."""

    sizes = (12.0, 24.0, 36.0, 48.0, 60.0)
    unit = "% brighter or darker"
    says = f"brightness, with a tint of up to {TINT:g} times as much and lamps turned by {TILT:g} degrees times as much"

    def paint(self, world: PerturbableWorld, seed: int) -> None:
        random, model = self.random(seed), world.model
        share = self.size / 100
        colour = 1 + share * (random.choice((-1.0, 1.0)) + TINT * random.uniform(-1, 1, 3))
        lamps = (model.light_diffuse, model.light_ambient, model.light_specular)
        head = model.vis.headlight
        for strength in (*lamps, head.diffuse, head.ambient, head.specular):
            strength[:] = np.clip(strength * colour, 0.0, 1.0)
        turn = Rotation.from_rotvec(
            math.radians(TILT * share) * random.choice((-1.0, 1.0), 2) @ np.eye(2, 3) / math.sqrt(2)
        )
        model.light_dir[:] = turn.apply(model.light_dir)
