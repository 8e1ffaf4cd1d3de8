"""The background axis: table, floor and walls have other colours; robot, objects and goals keep theirs."""

import numpy as np

from volar.envs.perturbation.axis import PictureAxis
from volar.envs.perturbation.world import PerturbableWorld

MUTED = 0.5  # share of the way to grey
UNSET = (0.5, 0.5, 0.5, 1.0)  # a geom's colour that lets its material's show


class Background(PictureAxis):
    """Each surface gets a colour of its own, muted, so that no coloured object disappears in it. A texture stays and is
    tinted."""

    sizes = (20.0, 40.0, 60.0, 80.0, 100.0)
    unit = "% of another colour"
    says = "colours of table, floor and walls are mixed with others"

    def paint(self, world: PerturbableWorld, seed: int) -> None:
        model, share = world.model, self.size / 100
        colours = self.random(seed).uniform(0, 1, (len(world.background), 3))
        colours += MUTED * (colours.mean(axis=1, keepdims=True) - colours)
        for geom, colour in zip(world.background, colours, strict=True):
            material = int(model.geom_matid[geom])
            bare = material < 0 or not np.allclose(model.geom_rgba[geom], UNSET)
            own = model.geom_rgba[geom] if bare else model.mat_rgba[material]
            model.geom_rgba[geom, :3] = (1 - share) * own[:3] + share * colour
            model.geom_rgba[geom, 3] = own[3]
