"""A WebSocket as an Actor: the policy may run in another process, environment or machine. Free of torch."""

import time
from dataclasses import replace
from typing import Any

from volar.core.connection import Connection
from volar.core.errors import EpisodeError
from volar.core.robot import Actor, Chunk, Observation, RobotSpec
from volar.core.wire import POLICY_PROTOCOL, read_chunk, write_observation


class RemoteActor(Actor):
    """Speaks to a PolicyServer. Raises ConfigError when there is none, or one that speaks another protocol.

    A server that stalls or disappears ends the episode with EpisodeError; the next `reset` connects anew.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 60.0) -> None:
        self._url, self._token, self._timeout = url, token, timeout
        self._connection = self._connect()
        self.card = self._connection.card
        self.uses_images = bool(self.card.get("uses_images", True))
        self.privileged = tuple(str(used) for used in self.card.get("privileged", ()))
        self.robot = RobotSpec.from_json(self.card["robot"])

    def reset(self, seed: int) -> None:
        if not self._connection.open:
            self._connection = self._connect()
        self._ask({"type": "reset", "seed": seed})

    def act(self, observation: Observation) -> Chunk:
        """The chunk's latency is what the robot waits for it, the way there and back included."""
        started = time.perf_counter()
        answer = self._ask(write_observation(observation))
        return replace(read_chunk(answer), latency=time.perf_counter() - started)

    def close(self) -> None:
        self._connection.close()

    def _connect(self) -> Connection:
        return Connection(
            self._url, protocol=POLICY_PROTOCOL, remedy="Start a policy there: volar serve POLICY.",
            token=self._token, timeout=self._timeout,
        )  # fmt: skip

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        answer = self._connection.ask(message)
        if "error" in answer:
            raise EpisodeError(f"{self._url}: {answer['error']}")
        return answer
