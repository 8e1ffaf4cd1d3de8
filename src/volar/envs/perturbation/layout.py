"""The layout axis: everything that the task places stands further out than it ever does."""

from volar.envs.perturbation.axis import BeginningAxis
from volar.envs.perturbation.world import Displacement


class Layout(BeginningAxis):
    """Objects and goal keep their places relative to one another. Nothing is added to the scene."""

    sizes = (1.0, 2.0, 3.0, 4.0, 5.0)
    unit = "cm"
    says = "objects and goal stand further from the middle of where they may stand"

    def displace(self, seed: int) -> Displacement:
        return Displacement(outward=self.size / 100)
