"""One environment that answers messages, in a process of its own; what the messages are is told in docs/remote.md.

Torch-free: besides volar it needs numpy, jaxtyping, msgpack and the environment's simulator.
"""

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from volar.core.errors import ConfigError, EpisodeError, RobotFault
from volar.core.robot import Env, PrivilegedActor, RestorableEnv
from volar.core.wire import LARGEST, pack, read_observation, read_seed, unpack, write_chunk, write_observation
from volar.envs import instructions, make_env, make_expert

ERRORS = {kind.__name__: kind for kind in (ConfigError, EpisodeError, RobotFault)}
LARGEST_SIDE = 2048  # pixels; a larger picture would not fit into a message
Message = Mapping[str, Any]


class World:
    """Final. Holds one environment at a time. served: what may be asked for: environments, or `environment/task`."""

    def __init__(self, served: Sequence[str]) -> None:
        self._served = served
        self._task = ""
        self._env: Env | None = None
        self._expert: PrivilegedActor | None = None
        self._answers: dict[str, Callable[[Message], dict[str, Any]]] = {
            "instructions": self._instructions, "make": self._make, "reset": self._reset, "step": self._step,
            "observe": lambda _: write_observation(self.env.observe()),
            "signs": lambda _: {"signs": asdict(self.env.signs())}, "digest": lambda _: {"digest": self.env.digest()},
            "save": lambda _: {"state": self.restorable.save()}, "restore": self._restore,
            "expert": self._begin_expert, "act": self._act, "close": self._close,
        }  # fmt: skip

    @property
    def env(self) -> Env:
        if self._env is None:
            raise EpisodeError("No environment has been made yet; send 'make' first.")
        return self._env

    @property
    def restorable(self) -> RestorableEnv:
        if not isinstance(self.env, RestorableEnv):
            raise ConfigError(f"{self._task} cannot save and restore its state.")
        return self.env

    def answer(self, data: bytes) -> bytes:
        """Whatever comes, an answer: a map with `error` and its `kind` where something went wrong."""
        try:
            message = unpack(data)
            kind = message.get("type")
            if kind not in self._answers:
                raise EpisodeError(f"A message's type is one of {', '.join(self._answers)}; got {kind!r}.")
            return pack(self._answers[kind](message))
        except Exception as error:  # whatever a simulator throws costs this answer; whoever asked decides
            known = type(error).__name__ in ERRORS
            told = str(error) if known else f"{type(error).__name__}: {error}"
            return pack({"error": told, "kind": type(error).__name__ if known else EpisodeError.__name__})

    def _close(self, message: Message) -> dict[str, Any]:
        if self._env is not None:
            self._env.close()
        self._env = self._expert = None
        return {}

    def _allowed(self, message: Message) -> str:
        task = str(message.get("task"))
        if not {task, task.partition("@")[0], task.partition("/")[0]} & set(self._served):
            raise ConfigError(f"{task!r} is not served here, only {', '.join(self._served)}.")
        return task

    def _instructions(self, message: Message) -> dict[str, Any]:
        return {"instructions": list(instructions(self._allowed(message)))}

    def _make(self, message: Message) -> dict[str, Any]:
        task, cameras = self._allowed(message), _cameras(message)
        self._close(message)
        env = make_env(task, cameras=cameras)
        self._task, self._env = task, env
        return {
            "robot": env.spec.to_json(), "privileged": list(env.privileged), "describe": json.dumps(env.describe()),
        }  # fmt: skip

    def _reset(self, message: Message) -> dict[str, Any]:
        self.env.reset(read_seed(message))
        return self._present()

    def _step(self, message: Message) -> dict[str, Any]:
        action = message.get("action")
        if not isinstance(action, np.ndarray) or action.shape != (self.env.spec.action.dim,):
            raise EpisodeError(f"A step has an 'action' of {self.env.spec.action.dim} numbers.")
        step = self.env.step(self.env.spec.action.clip(action))
        return {
            "success": bool(step.success), "reward": float(step.reward), "terminated": bool(step.terminated),
            **self._present(),
        }  # fmt: skip

    def _restore(self, message: Message) -> dict[str, Any]:
        state = message.get("state")
        if not isinstance(state, bytes):
            raise EpisodeError(f"A state is bytes, got {type(state).__name__}.")
        self.restorable.restore(state)
        return self._present()

    def _present(self) -> dict[str, Any]:
        """What the loop of an episode asks after every step anyway, so that a step costs one message."""
        measures = {name: float(value) for name, value in self.env.measure().items()}
        return {**write_observation(self.env.observe(images=False)), "measures": measures}

    def _begin_expert(self, message: Message) -> dict[str, Any]:
        if self._expert is None:
            self._expert = make_expert(self._task)
        self._expert.reset(read_seed(message))
        self._expert.bind(self.env)
        return {"privileged": list(self._expert.privileged)}

    def _act(self, message: Message) -> dict[str, Any]:
        if self._expert is None:
            raise EpisodeError("No expert has begun yet; send 'expert' first.")
        return write_chunk(self._expert.act(read_observation(message)))


def _cameras(message: Message) -> dict[str, int] | None:
    cameras = message.get("cameras")
    if cameras is None:
        return None
    if not isinstance(cameras, dict) or not all(type(side) is int and 1 <= side <= LARGEST_SIDE
                                                for side in cameras.values()):  # fmt: skip
        raise ConfigError(f"Cameras are names with a side of 1 to {LARGEST_SIDE} pixels, got {cameras!r}.")
    return cameras


def serve_world(pipe: Connection, served: Sequence[str]) -> None:
    """Answer what comes through the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends Ctrl-C to all; the listening process ends us
    world = World(served)
    try:
        while True:
            pipe.send_bytes(world.answer(pipe.recv_bytes(LARGEST)))
    except (EOFError, OSError):  # the listening process is gone
        return
