"""The sensor axis: pictures and proprioception are noisy and late."""

from dataclasses import replace

import numpy as np

from volar.core.robot import Observation
from volar.envs.perturbation.axis import ObservationAxis

GREY_PER_MM, DELAY_PER_MM = 5.0, 0.04  # grey levels of 255 and seconds that go with a millimetre of noise


class Sensor(ObservationAxis):
    """Gaussian noise on every pixel and every number of proprioception, drawn anew at each control step. The size is
    that of proprioception, in thousandths of each number's own unit, so millimetres for positions. The delay is
    rounded to control steps."""

    sizes = (0.25, 0.5, 1.0, 2.0, 4.0)
    unit = "mm of noise"
    says = f"and {GREY_PER_MM:g} grey levels of noise and {1000 * DELAY_PER_MM:g} ms of delay per mm"

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.delay = self.size * DELAY_PER_MM

    def look(self, observation: Observation, *, seed: int, step: int) -> Observation:
        random = self.random(seed, step)
        felt = observation.proprioception
        felt = (felt + random.normal(0.0, self.size / 1000, felt.shape)).astype(np.float32)
        images = {name: self._noisy(image, random) for name, image in observation.images.items()}
        return replace(observation, images=images, proprioception=felt)

    def _noisy(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        noise = random.standard_normal(image.shape, dtype=np.float32) * (GREY_PER_MM * self.size)
        return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
