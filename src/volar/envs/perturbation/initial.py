"""The axis of the robot's initial state: the hand begins elsewhere."""

import math

from volar.envs.perturbation.axis import BeginningAxis
from volar.envs.perturbation.world import Displacement


class InitialState(BeginningAxis):
    """Towards any side, and upwards by at most 45 degrees, so that the hand does not begin in the table."""

    sizes = (1.0, 2.0, 4.0, 6.0, 8.0)
    unit = "cm"
    says = "the hand begins elsewhere"

    def displace(self, seed: int) -> Displacement:
        random = self.random(seed)
        side, rise = random.uniform(0, 2 * math.pi), random.uniform(0, math.pi / 4)
        level = math.cos(rise)
        x, y, z = (self.size / 100 * part for part in (level * math.cos(side), level * math.sin(side), math.sin(rise)))
        return Displacement(hand=(x, y, z))
