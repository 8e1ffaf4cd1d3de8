"""An Actor behind a WebSocket: every connection gets an actor of its own, and they decide one after the other.

On connecting the server sends its card (what the policy expects and what its numbers mean), then answers each message:
{"type": "reset", "seed"} -> {"ok": True}; an observation -> {"actions", "execute", "evaluations", "latency"}. A
message without `type` is an observation, as openpi's clients send it: {"images": {camera: array}, "state", "prompt"}.
"""

import hmac
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from volar.core.errors import ConfigError, EpisodeError
from volar.core.robot import Actor, Observation, RobotSpec
from volar.serving.wire import LARGEST, PROTOCOL, pack, unpack

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class PolicyServer:
    """Listens as soon as it is made; `run` answers until `stop`. Use it as a context manager or call `stop`.

    card: facts for the client beside the robot's, such as name, hash and horizon. Raises ConfigError for a host that
    others can reach without a token, and for a port that is taken.
    """

    def __init__(
        self, make_actor: Callable[[], Actor], *, robot: RobotSpec, card: Mapping[str, Any], host: str = "127.0.0.1",
        port: int = 0, token: str | None = None,
    ) -> None:  # fmt: skip
        if host not in LOOPBACK and not token:
            raise ConfigError(f"Others can reach {host!r}; give a token, or bind to 127.0.0.1.")
        self._make_actor, self._token, self._deciding = make_actor, token, threading.Lock()
        first = make_actor()
        self._card = {
            **card, "protocol": PROTOCOL, "robot": robot.to_json(), "uses_images": first.uses_images,
            "privileged": list(first.privileged),
        }  # fmt: skip
        try:
            self._server: Server = serve(
                self._talk, host, port, max_size=LARGEST, compression=None, process_request=self._admit
            )
        except OSError as error:
            raise ConfigError(f"Cannot listen on {host}:{port} ({error.strerror}); choose another port.") from error
        self._host = host

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"ws://{host}:{self._server.socket.getsockname()[1]}"

    def run(self) -> None:
        self._server.serve_forever()

    def stop(self) -> None:
        self._server.shutdown()

    def __enter__(self) -> "PolicyServer":
        threading.Thread(target=self.run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/healthz":
            return connection.respond(200, "OK\n")
        if self._token is None:
            return None
        given = request.headers.get("Authorization", "").removeprefix("Api-Key ").removeprefix("Bearer ")
        if hmac.compare_digest(given.encode(), self._token.encode()):
            return None
        return connection.respond(401, "A valid token is needed.\n")

    def _talk(self, connection: ServerConnection) -> None:
        actor = self._make_actor()
        try:
            connection.send(pack(self._card))
            while True:
                connection.send(self._answer(actor, connection.recv()))
        except ConnectionClosed:
            return

    def _answer(self, actor: Actor, data: str | bytes) -> bytes:
        try:
            if isinstance(data, str):
                raise EpisodeError("Messages are binary msgpack, got text.")
            message = unpack(data)
            if message.get("type") == "reset":
                actor.reset(_seed(message))
                return pack({"ok": True})
            observation = read_observation(message)
            with self._deciding:
                chunk = actor.act(observation)
        except Exception as error:  # a bad request or a failing policy costs this answer, never the server
            return pack({"error": f"{type(error).__name__}: {error}"})
        return pack(
            {
                "actions": chunk.actions, "execute": chunk.execute, "evaluations": chunk.evaluations,
                "latency": chunk.latency,
            }
        )  # fmt: skip


def _seed(message: Mapping[str, Any]) -> int:
    seed = message.get("seed")
    if not isinstance(seed, int) or seed < 0:
        raise EpisodeError(f"A reset has a seed, a whole number from 0 up; got {seed!r}.")
    return seed


def read_observation(message: Mapping[str, Any]) -> Observation:
    """Raises EpisodeError naming the part that is missing or of the wrong type."""
    images, state, prompt = message.get("images", {}), message.get("state"), message.get("prompt")
    if not isinstance(state, np.ndarray) or state.ndim != 1:
        raise EpisodeError(f"An observation has a 'state', a flat array of numbers; got {type(state).__name__}.")
    if not isinstance(prompt, str):
        raise EpisodeError(f"An observation has a 'prompt', the instruction as text; got {type(prompt).__name__}.")
    if not isinstance(images, dict):
        raise EpisodeError(f"An observation's 'images' map camera names to pictures; got {type(images).__name__}.")
    for name, image in images.items():
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise EpisodeError(f"Camera {name!r}: expected a picture uint8 [height width 3].")
    return Observation(
        images=images, proprioception=state.astype(np.float32), instruction=prompt, time=float(message.get("time", 0.0))
    )
