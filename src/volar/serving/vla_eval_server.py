"""An Actor as a model server of vla-eval, so that its benchmarks in their containers can evaluate a policy of volar.

Answers one action per observation, as they expect: `execute` actions of a chunk are handed out before the next look.
"""

import json
import threading
import zlib
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

import volar
from volar.core.errors import EpisodeError
from volar.core.robot import Actor, RobotSpec
from volar.serving.listener import Listener
from volar.serving.vla_eval import (
    PROTOCOL_VERSION,
    Conventions,
    Message,
    declared,
    gripper_signs,
    pack_message,
    read_observation,
    unpack_message,
)


class VlaEvalServer(Listener):
    """Every connection gets an actor of its own, and they decide one after the other. Raises ConfigError where the
    conventions cannot be those of `robot`, the policy's."""

    health = ("/health", '{"status": "ok"}\n')
    ping_seconds = None  # a benchmark that builds its scene does not answer pings for minutes

    def __init__(
        self, make_actor: Callable[[], Actor], *, robot: RobotSpec, conventions: Conventions, name: str,
        host: str = "127.0.0.1", port: int = 0, token: str | None = None,
    ) -> None:  # fmt: skip
        self.signs = gripper_signs(conventions, robot)
        self.make_actor, self.robot, self.conventions, self.name = make_actor, robot, conventions, name
        self.deciding = threading.Lock()
        super().__init__(host=host, port=port, token=token)

    def talk(self, connection: ServerConnection) -> None:
        session = _Session(self)
        try:
            while True:
                answer = session.answer(connection.recv())
                if answer is not None:
                    connection.send(answer)
        except ConnectionClosed:
            return


class _Session:
    """What one benchmark says, and one actor's answers."""

    def __init__(self, server: VlaEvalServer) -> None:
        self._server, self._actor = server, server.make_actor()
        self._planned: list[Any] = []
        self._steps = 0
        self._refusal = "No episode has begun yet."

    def answer(self, data: str | bytes) -> bytes | None:
        seq = 0
        try:
            message = unpack_message(data)
            seq = message.seq
            if message.kind == "hello":
                return pack_message("hello", self._hello(message), seq)
            if message.kind == "episode_start":
                self._refusal = self._begin(message)
            if message.kind == "observation":
                return pack_message("action", {"actions": self._act(message)}, seq)
        except Exception as error:  # a bad message or a failing policy costs this answer, never the server
            return pack_message("error", {"error": f"{type(error).__name__}: {error}"}, seq)
        return None

    def _hello(self, message: Message) -> dict[str, Any]:
        spoken = message.payload.get("protocol_version")
        if spoken != PROTOCOL_VERSION:
            raise EpisodeError(f"The harness speaks version {spoken} of the protocol, expected {PROTOCOL_VERSION}.")
        return {
            "harness_version": f"volar {volar.__version__}", "protocol_version": PROTOCOL_VERSION,
            "model_server": self._server.name, "capabilities": {}, **declared(self._server.conventions),
        }  # fmt: skip

    def _begin(self, message: Message) -> str:
        """Why this episode cannot be; "" if it can. It waits for the first observation, since the harness expects no
        answer here and would take one for that of the next message, and so on for ever."""
        self._planned, self._steps = [], 0
        if message.payload.get("mode") == "live":
            return "Benchmarks in live mode are not served; evaluate with mode: sync."
        task = json.dumps(message.payload.get("task", {}), sort_keys=True, default=str)
        try:
            self._actor.reset(zlib.crc32(task.encode()))
        except Exception as error:  # of a stranger's policy
            return f"The policy could not begin an episode ({type(error).__name__}: {error})."
        return ""

    def _act(self, message: Message) -> Any:
        if self._refusal:
            raise EpisodeError(self._refusal)
        if not self._planned:
            seconds = self._steps / self._server.robot.action.rate_hz
            server = self._server
            seen = read_observation(message.payload, server.conventions, server.robot, seconds=seconds)
            with server.deciding:
                chunk = self._actor.act(seen)
            self._planned = list(chunk.actions[: chunk.execute])
        self._steps += 1
        return self._server.robot.action.clip(self._planned.pop(0)) * self._server.signs
