"""An environment in another process, container or machine, behind `volar serve-env`; the protocol: docs/remote.md.

Not a simulator: what it cannot do, the far one cannot. Nothing that comes over the wire is executed or believed unread.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32

from volar.core.connection import Connection, Lost
from volar.core.errors import ConfigError, EpisodeError, RobotFault
from volar.core.evidence import Mishap, Signs, Stage
from volar.core.robot import Chunk, Env, Observation, PrivilegedActor, RestorableEnv, RobotSpec, Step
from volar.core.wire import ENVIRONMENT_PROTOCOL, read_chunk, read_observation, write_observation

TOKEN = "VOLAR_ENV_TOKEN"  # a task's name goes into records, so the token of a server cannot be part of it
ANSWER_WITHIN = 120.0  # seconds; building a large scene takes some simulators a minute
KINDS = {kind.__name__: kind for kind in (ConfigError, EpisodeError, RobotFault)}
Proper = TypeVar("Proper")


class Remote(RestorableEnv):
    """`remote/HOST:PORT/environment/task`. Whether states can be saved is up to the far one: ConfigError where not.

    An episode in which the far side breaks, stalls or talks nonsense ends with EpisodeError, and `reset` connects anew.
    RobotFault when nobody listens there any more: going on would only break all further episodes.
    """

    def __init__(
        self, task: str, *, cameras: Mapping[str, int] | None = None, timeout: float = ANSWER_WITHIN
    ) -> None:  # fmt: skip
        self._address, self._task = split(task)
        self._cameras = None if cameras is None else dict(cameras)
        self._timeout = timeout
        self._connection = _connect(self._address, timeout)
        made = self._make()
        far = {name: str(self._connection.card.get(name)) for name in ("volar", "python")}
        self._facts: dict[str, Any] = _proper(lambda: {**json.loads(made["describe"]), "served_by": far})
        self.privileged = _proper(lambda: tuple(str(used) for used in made["privileged"]))
        self._seen: Observation | None = None
        self._measures: dict[str, float] = {}

    @staticmethod
    def tasks() -> tuple[str, ...]:
        """None: which there are depends on the server."""
        return ()

    @staticmethod
    def instructions(task: str) -> tuple[str, ...]:
        address, far = split(task)
        connection = _connect(address, ANSWER_WITHIN)
        try:
            answer = _refused(connection.ask({"type": "instructions", "task": far}))
            return _proper(lambda: tuple(str(words) for words in answer["instructions"]))
        finally:
            connection.close()

    @staticmethod
    def expert() -> "RemoteExpert":
        return RemoteExpert()

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def reset(self, seed: int) -> None:
        if not self._connection.open:
            self._connection = self._connected_again()
            self._make()
        self._take_in(self.ask({"type": "reset", "seed": seed}))

    def observe(self, *, images: bool = True) -> Observation:
        if not images:
            if self._seen is None:
                raise EpisodeError("Nothing can be observed before the first reset.")
            return self._seen
        seen = self._read(self.ask({"type": "observe"}))
        for camera in self._spec.cameras:
            shape = seen.images[camera.name].shape if camera.name in seen.images else None
            if shape != (camera.height, camera.width, 3):
                raise EpisodeError(f"Camera {camera.name!r} is {camera.height} x {camera.width} pixels; got {shape}.")
        return seen

    def step(self, action: Float32[np.ndarray, " a"]) -> Step:
        answer = self.ask({"type": "step", "action": action})
        self._take_in(answer)
        reward = answer.get("reward")
        flags = [answer.get(name) for name in ("success", "terminated")]
        if not (isinstance(reward, float) and np.isfinite(reward) and all(isinstance(flag, bool) for flag in flags)):
            raise EpisodeError(f"A step brings a finite reward and two flags; got {reward!r} and {flags}.")
        return Step(success=flags[0] is True, reward=reward, terminated=flags[1] is True)

    def close(self) -> None:
        self._connection.close()

    def measure(self) -> dict[str, float]:
        return self._measures

    def signs(self) -> Signs:
        far = self.ask({"type": "signs"})
        return _proper(lambda: _signs(far["signs"]))

    def digest(self) -> str:
        return str(self.ask({"type": "digest"}).get("digest"))

    def describe(self) -> dict[str, Any]:
        return self._facts

    def save(self) -> bytes:
        state = self.ask({"type": "save"}).get("state")
        if not isinstance(state, bytes):
            raise EpisodeError(f"A state is bytes, got {type(state).__name__}.")
        return state

    def restore(self, state: bytes) -> None:
        self._take_in(self.ask({"type": "restore", "state": state}))

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """The far side's answer; what it raised is raised here."""
        try:
            return _refused(self._connection.ask(message))
        except Lost as lost:
            self._connected_again().close()
            raise EpisodeError(f"{lost} A server still listens there, so the next episode may go well.") from lost

    def _make(self) -> dict[str, Any]:
        try:
            made = self.ask({"type": "make", "task": self._task, "cameras": self._cameras})
            self._spec: RobotSpec = _proper(lambda: RobotSpec.from_json(made["robot"]))
        except (ConfigError, EpisodeError):
            self.close()
            raise
        return made

    def _connected_again(self) -> Connection:
        try:
            return _connect(self._address, self._timeout)
        except ConfigError as error:
            raise RobotFault(
                f"The environment at {self._address} is lost ({error}) What is recorded stays; the same command goes "
                f"on from there once it is served again."
            ) from error

    def _take_in(self, answer: dict[str, Any]) -> None:
        self._seen = self._read(answer)
        measures = answer.get("measures")
        if not isinstance(measures, dict):
            raise EpisodeError(f"Measures are named numbers, got {type(measures).__name__}.")
        bad = [name for name, value in measures.items() if not (isinstance(value, float) and np.isfinite(value))]
        if bad:
            raise EpisodeError(f"{self._address} measures what is no finite number: {', '.join(map(str, bad))}.")
        self._measures = measures

    def _read(self, answer: dict[str, Any]) -> Observation:
        seen = read_observation(answer)
        names = self._spec.proprioception
        if seen.proprioception.shape != (len(names),) or not np.isfinite(seen.proprioception).all():
            raise EpisodeError(f"{self._address}: {len(names)} finite numbers are felt; got {seen.proprioception}.")
        return seen


class RemoteExpert(PrivilegedActor):
    """The far environment's own scripted expert, which acts there. `privileged` is known once it is bound."""

    def __init__(self) -> None:
        self._seed = 0

    def reset(self, seed: int) -> None:
        self._seed = seed

    def bind(self, env: Env) -> None:
        if not isinstance(env, Remote):
            raise ConfigError(f"A remote environment's expert acts there only, not in {type(env).__name__}.")
        self._env = env
        answer = env.ask({"type": "expert", "seed": self._seed})
        self.privileged = _proper(lambda: tuple(str(used) for used in answer["privileged"]))

    def act(self, observation: Observation) -> Chunk:
        return read_chunk(self._env.ask({"type": "act", **write_observation(replace(observation, images={}))}))


def split(task: str) -> tuple[str, str]:
    """`HOST:PORT` and `environment/task`. ConfigError for anything else."""
    address, _, far = task.partition("/")
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and "/" in far):
        raise ConfigError(
            f"A remote task is written remote/HOST:PORT/environment/task, such as "
            f"remote/127.0.0.1:8765/toy/reach-red; got remote/{task}."
        )
    return address, far


def _connect(address: str, timeout: float) -> Connection:
    return Connection(
        f"ws://{address}", protocol=ENVIRONMENT_PROTOCOL, token=os.environ.get(TOKEN), timeout=timeout,
        remedy=f"Serve the environment there: volar serve-env ENVIRONMENT --port {address.rpartition(':')[2]}.",
    )  # fmt: skip


def _refused(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise KINDS.get(str(answer.get("kind")), EpisodeError)(str(answer["error"]))
    return answer


def _proper(read: Callable[[], Proper]) -> Proper:
    """What `read` makes of an answer; EpisodeError where the answer does not allow it."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EpisodeError(f"The far side told nonsense ({type(error).__name__}: {error}).") from error


def _signs(far: Mapping[str, Any]) -> Signs:
    return Signs(
        stages=tuple(Stage(**stage) for stage in far["stages"]),
        mishaps=tuple(Mishap(**mishap) for mishap in far["mishaps"]), terminated=str(far["terminated"]),
    )  # fmt: skip
