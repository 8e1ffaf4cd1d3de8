"""A WebSocket as an Actor: the policy may run in another process, environment or machine. Free of torch."""

import time
from typing import Any

from websockets.exceptions import InvalidHandshake, WebSocketException
from websockets.sync.client import ClientConnection, connect

from volar.core.errors import ConfigError, EpisodeError
from volar.core.robot import Actor, Chunk, Observation, RobotSpec
from volar.serving.wire import LARGEST, PROTOCOL, pack, unpack


class RemoteActor(Actor):
    """Speaks to a PolicyServer. Raises ConfigError when there is none, or one that speaks another protocol.

    A server that stalls or disappears ends the episode with EpisodeError; the next `reset` connects anew.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 60.0) -> None:
        self._url, self._token, self._timeout = url, token, timeout
        self._connection: ClientConnection | None = None
        self.card = self._connect()
        self.uses_images = bool(self.card.get("uses_images", True))
        self.privileged = tuple(str(used) for used in self.card.get("privileged", ()))
        self.robot = RobotSpec.from_json(self.card["robot"])

    def reset(self, seed: int) -> None:
        if self._connection is None:
            self._connect()
        self._ask({"type": "reset", "seed": seed})

    def act(self, observation: Observation) -> Chunk:
        """The chunk's latency is what the robot waits for it, the way there and back included."""
        started = time.perf_counter()
        answer = self._ask(
            {
                "images": dict(observation.images), "state": observation.proprioception,
                "prompt": observation.instruction, "time": observation.time,
            }
        )  # fmt: skip
        try:
            return Chunk(
                actions=answer["actions"], execute=int(answer["execute"]), evaluations=int(answer["evaluations"]),
                latency=time.perf_counter() - started,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise EpisodeError(f"{self._url} answered without a proper chunk ({error!r}).") from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> dict[str, Any]:
        headers = {"Authorization": f"Api-Key {self._token}"} if self._token else None
        try:
            self._connection = connect(
                self._url, additional_headers=headers, max_size=LARGEST, compression=None, open_timeout=self._timeout
            )
            card = unpack(self._received())
        except (OSError, ValueError, InvalidHandshake, EpisodeError) as error:
            raise ConfigError(f"No policy answers at {self._url} ({error}). Start one: volar serve POLICY.") from error
        if card.get("protocol") != PROTOCOL:
            raise ConfigError(f"{self._url} speaks {card.get('protocol')!r}, expected {PROTOCOL!r}.")
        return card

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        if self._connection is None:
            raise EpisodeError(f"The connection to {self._url} is lost.")
        try:
            self._connection.send(pack(message))
            answer = unpack(self._received())
        except (OSError, WebSocketException, EpisodeError) as error:
            self.close()
            raise EpisodeError(f"{self._url} did not answer ({type(error).__name__}: {error}).") from error
        if "error" in answer:
            raise EpisodeError(f"{self._url}: {answer['error']}")
        return answer

    def _received(self) -> bytes:
        assert self._connection is not None
        data = self._connection.recv(timeout=self._timeout)
        if isinstance(data, str):
            raise EpisodeError(f"expected a binary message, got the text {data[:200]!r}")
        return data
