"""An Actor behind a WebSocket: every connection gets an actor of its own, and they decide one after the other.

On connecting the server sends its card (what the policy expects and what its numbers mean), then answers each message:
{"type": "reset", "seed"} -> {"ok": True}; an observation -> {"actions", "execute", "evaluations", "latency"}. A
message without `type` is an observation, as openpi's clients send it: {"images": {camera: array}, "state", "prompt"}.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from volar.core.robot import Actor, RobotSpec
from volar.core.wire import POLICY_PROTOCOL, pack, read_observation, read_seed, unpack, write_chunk
from volar.serving.listener import Listener


class PolicyServer(Listener):
    """card: facts for the client beside the robot's, such as name, hash and horizon."""

    def __init__(
        self, make_actor: Callable[[], Actor], *, robot: RobotSpec, card: Mapping[str, Any], host: str = "127.0.0.1",
        port: int = 0, token: str | None = None,
    ) -> None:  # fmt: skip
        self._make_actor, self._deciding = make_actor, threading.Lock()
        first = make_actor()
        self._card = {
            **card, "protocol": POLICY_PROTOCOL, "robot": robot.to_json(), "uses_images": first.uses_images,
            "privileged": list(first.privileged),
        }  # fmt: skip
        super().__init__(host=host, port=port, token=token)

    def talk(self, connection: ServerConnection) -> None:
        actor = self._make_actor()
        try:
            connection.send(pack(self._card))
            while True:
                connection.send(self._answer(actor, connection.recv()))
        except ConnectionClosed:
            return

    def _answer(self, actor: Actor, data: str | bytes) -> bytes:
        try:
            message = unpack(data)
            if message.get("type") == "reset":
                actor.reset(read_seed(message))
                return pack({"ok": True})
            observation = read_observation(message)
            with self._deciding:
                chunk = actor.act(observation)
        except Exception as error:  # a bad request or a failing policy costs this answer, never the server
            return pack({"error": f"{type(error).__name__}: {error}"})
        return pack(write_chunk(chunk))
