"""A world with perturbations on top: the same seed is the same scene underneath, and save and restore stay exact."""

import hashlib
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from volar.core.errors import ConfigError
from volar.core.evidence import Signs
from volar.core.robot import Env, Observation, RestorableEnv, RobotSpec, Step
from volar.envs.perturbation import TABLE
from volar.envs.perturbation.axis import Axis, BeginningAxis, ObservationAxis, PictureAxis
from volar.envs.perturbation.world import Displacement, PerturbableWorld
from volar.envs.state_bytes import label_of, pack, unpack
from volar.envs.state_view import StateView

PAINTED = ("cam_pos", "cam_quat", "light_diffuse", "light_ambient", "light_specular", "light_dir", "geom_rgba")
HEADLIGHT = ("diffuse", "ambient", "specular")


def perturb(env: Env, levels: Mapping[str, int], *, name: str) -> "Perturbed":
    """`env` with these levels of these axes. name: of the environment, for messages. Raises ConfigError where an axis
    does not exist for it. The env is closed then."""
    axes = {axis: TABLE.load(axis)(level) for axis, level in levels.items()}
    try:
        return Perturbed(_checked(env, axes, name), axes)
    except ConfigError:
        env.close()
        raise


def _checked(env: Env, axes: Mapping[str, Axis], name: str) -> RestorableEnv:
    if not isinstance(env, RestorableEnv):
        raise ConfigError(f"{name} cannot save and restore its state, so it cannot be perturbed.")
    for axis, member in axes.items():
        if isinstance(member, BeginningAxis | PictureAxis) and not isinstance(env.unwrapped, PerturbableWorld):
            others = [other for other in TABLE if issubclass(TABLE.load(other), ObservationAxis)]
            raise ConfigError(f"{name} has no axis {axis}; it has {' and '.join(others)}.")
        if isinstance(member, PictureAxis) and isinstance(env, StateView) and not env.spec.cameras:
            others = [other for other in TABLE if not issubclass(TABLE.load(other), PictureAxis)]
            raise ConfigError(
                f"{name} shows no pictures unless cameras are named, so the axis {axis} would change nothing; without "
                f"cameras it has {', '.join(others)}."
            )
    return env


class Perturbed(RestorableEnv):
    """Final. What each axis draws depends on the episode's seed; `env` belongs to it from now on."""

    def __init__(self, env: RestorableEnv, axes: Mapping[str, Axis]) -> None:
        self._env, self._axes = env, axes
        self.privileged = env.privileged
        self._label = ",".join(f"{name}={axis.level}" for name, axis in axes.items())
        self._beginnings = [axis for axis in axes.values() if isinstance(axis, BeginningAxis)]
        self._pictures = [axis for axis in axes.values() if isinstance(axis, PictureAxis)]
        self._observations = [axis for axis in axes.values() if isinstance(axis, ObservationAxis)]
        self._late = round(sum(axis.delay for axis in self._observations) * env.spec.action.rate_hz)
        self._looks = _looks(self._world) if self._pictures else {}
        self._seed, self._step, self._painted = 0, 0, -1
        self._past: deque[bytes] = deque(maxlen=self._late + 1)  # states, the present one last

    @property
    def _world(self) -> PerturbableWorld:
        world = self._env.unwrapped
        assert isinstance(world, PerturbableWorld)
        return world

    @property
    def spec(self) -> RobotSpec:
        return self._env.spec

    @property
    def unwrapped(self) -> Env:
        return self._env.unwrapped

    def reset(self, seed: int) -> None:
        self._seed, self._step = seed, 0
        self._paint()
        if self._beginnings:
            where = sum((axis.displace(seed) for axis in self._beginnings), Displacement())
            self._world.reset_displaced(seed, where)
        else:
            self._env.reset(seed)
        self._past.clear()
        self._remember()

    def _remember(self) -> None:
        if self._late:
            self._past.append(self._env.save())

    def _paint(self) -> None:
        if not self._pictures or self._painted == self._seed:
            return
        for array, shipped in self._looks.values():
            array[:] = shipped
        for axis in self._pictures:
            axis.paint(self._world, self._seed)
        self._painted = self._seed

    def observe(self, *, images: bool = True) -> Observation:
        seen = self._env.observe(images=images) if len(self._past) < 2 else self._observe_late(images)
        for axis in self._observations:
            seen = axis.look(seen, seed=self._seed, step=self._step)
        return seen

    def _observe_late(self, images: bool) -> Observation:
        """What there was to see `delay` ago, or at the beginning."""
        self._env.restore(self._past[0])
        seen = self._env.observe(images=images)
        self._env.restore(self._past[-1])
        return seen

    def step(self, action: Float32[np.ndarray, " a"]) -> Step:
        step = self._env.step(action)
        self._step += 1
        self._remember()
        return step

    def measure(self) -> Mapping[str, float]:
        return self._env.measure()

    def signs(self) -> Signs:
        return self._env.signs()

    def save(self) -> bytes:
        states = {f"past_{number}": _array(state) for number, state in enumerate(self._past)}
        own = {"seed": self._seed, "step": self._step, **states}
        return pack(self._label, {**own, "world": _array(self._env.save())})

    def restore(self, state: bytes) -> None:
        if (label := label_of(state)) != self._label:
            raise ConfigError(f"This state was saved under {label!r}, it cannot be restored under {self._label!r}.")
        values = {name: np.asarray(value) for name, value in unpack(state).items()}
        self._seed, self._step = int(values.pop("seed")), int(values.pop("step"))
        self._paint()
        self._env.restore(values.pop("world").tobytes())
        self._past.clear()
        self._past.extend(value.tobytes() for value in values.values())

    def digest(self) -> str:
        """Of the world's state and of all that the perturbations follow from."""
        return hashlib.sha256(f"{self._env.digest()} {self._label} {self._seed}".encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        perturbation = {name: axis.describe() for name, axis in self._axes.items()}
        return {**self._env.describe(), "perturbation": perturbation}

    def close(self) -> None:
        self._env.close()


def _array(state: bytes) -> np.ndarray:
    return np.frombuffer(state, np.uint8)


def _looks(world: PerturbableWorld) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Everything that is painted over, and what it was."""
    model = world.model
    head = {f"headlight_{name}": getattr(model.vis.headlight, name) for name in HEADLIGHT}
    arrays = {**{name: getattr(model, name) for name in PAINTED}, **head}
    return {name: (array, array.copy()) for name, array in arrays.items()}
