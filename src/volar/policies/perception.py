"""Who says what stands where, for policies that go by the names of things."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from volar.core.calibration import CalibratedWorld, Calibration, read_calibrations
from volar.core.errors import ConfigError, unknown_name
from volar.core.objects import NamedObject, NamingWorld
from volar.core.registry import Table
from volar.core.robot import Env, Observation
from volar.reasoning.language.detection import Detector
from volar.reasoning.language.locating import Seen, locate


class Perception(ABC):
    """privileged: what it uses that a robot would not have."""

    privileged: tuple[str, ...] = ()
    uses_images: bool = True

    def bind(self, env: Env) -> None:  # noqa: B027, for those that look at pictures only
        """Called at the beginning of an episode."""

    @abstractmethod
    def objects(self, observation: Observation) -> Mapping[str, NamedObject]: ...


class SimulatorPerception(Perception):
    """The simulator's own word."""

    privileged = ("simulator state: names, places and sizes of objects",)
    uses_images = False

    def bind(self, env: Env) -> None:
        self._world = naming_world(env)

    def objects(self, observation: Observation) -> Mapping[str, NamedObject]:
        return self._world.named_objects()


DETECTORS = Table(
    "detector",
    {
        "endpoint": "volar.reasoning.language.detection:endpoint_detector",
        "open-vocabulary": "volar.reasoning.language.open_vocabulary:OpenVocabulary",
    },
)


class DetectorPerception(Perception):
    """A detector's boxes on calibrated pictures; what is out of sight stays where it was last seen. Nothing privileged.

    names: what to look for. detector: a name above, `module:Class`, or a Detector; settings: what it is called with.
    calibration: a file with the cameras' calibrations; None takes the world's own. table: height of the plane that
    things stand on, metres. every: looks between two detections.
    """

    def __init__(
        self, names: Sequence[str], detector: str | Detector, *, calibration: str | None = None, table: float = 0.0,
        every: int = 1, **settings: Any,
    ) -> None:  # fmt: skip
        if not names or every < 1:
            raise ConfigError(f"A detector needs names to look for and every >= 1; got {list(names)} and {every}.")
        self._names, self._table, self._every = tuple(names), table, every
        self._given = None if calibration is None else read_calibrations(Path(calibration))
        self._detector = detector if isinstance(detector, Detector) else DETECTORS.load(detector)(**settings)

    def bind(self, env: Env) -> None:
        self.begin([camera.name for camera in env.spec.cameras], self._given or _calibrations(env))

    def begin(self, cameras: Sequence[str], known: Mapping[str, Calibration]) -> None:
        """Of an episode, also of one that was recorded. known: calibrations by camera; ConfigError where one of the
        cameras is not among them."""
        for camera in cameras:
            if camera not in known:
                raise unknown_name("calibrated camera", camera, known)
        self._cameras = known
        self._seen: dict[str, NamedObject] = {}
        self._looks = 0

    def objects(self, observation: Observation) -> Mapping[str, NamedObject]:
        return self.see(observation.images)

    def see(self, images: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]) -> Mapping[str, NamedObject]:
        """By camera, of one moment."""
        if self._looks % self._every == 0:
            self._look(images)
        self._looks += 1
        return self._seen

    def _look(self, images: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]) -> None:
        boxes: dict[str, list[Seen]] = {}
        for camera, image in images.items():
            for found in self._detector.detect(image, self._names):
                seen = Seen(calibration=self._cameras[camera], low=found.low, high=found.high)
                boxes.setdefault(found.name, []).append(seen)
        places = {name: locate(seen, table=self._table) for name, seen in boxes.items()}
        self._seen = {**self._seen, **{name: place for name, place in places.items() if place is not None}}


def _calibrations(env: Env) -> Mapping[str, Calibration]:
    world = env.unwrapped
    if not isinstance(world, CalibratedWorld):
        raise ConfigError(
            f"{type(world).__name__} does not know its cameras; name a file with their calibrations: "
            f"calibration=./cameras.json."
        )
    return world.calibrations()


def naming_world(env: Env) -> NamingWorld:
    """The world behind `env`. Raises ConfigError where it names nothing."""
    world = env.unwrapped
    if not isinstance(world, NamingWorld):
        raise ConfigError(f"{type(world).__name__} does not name its objects, so language cannot refer to them.")
    return world
