"""A model server of vla-eval as an Actor, so that a policy which others serve meets our environments and our pages."""

import time
from typing import Any

import numpy as np
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

import volar
from volar.core.errors import ConfigError, EpisodeError
from volar.core.robot import Actor, Chunk, Observation, RobotSpec
from volar.core.wire import LARGEST
from volar.serving.vla_eval import (
    PROTOCOL_VERSION,
    Conventions,
    Message,
    declared,
    gripper_signs,
    pack_message,
    shown,
    unpack_message,
    write_observation,
)


class VlaEvalActor(Actor):
    """Asks at every step, since a model server of vla-eval keeps its chunks to itself; `execute` is always 1.

    robot: of the environment it will act in. Raises ConfigError when nobody answers, and when what the server declares
    of itself is not what `conventions` say. A server that stalls or disappears ends the episode with EpisodeError; the
    next `reset` connects anew.
    """

    def __init__(self, url: str, conventions: Conventions, robot: RobotSpec, *, timeout: float = 60.0) -> None:
        self._signs = gripper_signs(conventions, robot)
        self._url, self._conventions, self._robot, self._timeout = url, conventions, robot, timeout
        self._socket: ClientConnection | None = None
        self._seq, self._begun = 0, False
        self.server = self._connect()
        self._require_agreement()

    def reset(self, seed: int) -> None:
        """The protocol has no seed: how far a server repeats itself is up to it."""
        if self._socket is None:
            self._connect()
        self._begun = False

    def act(self, observation: Observation) -> Chunk:
        started = time.perf_counter()
        if not self._begun:
            self._send("episode_start", {"task": {"name": observation.instruction}})
            self._begun = True
        self._send("observation", write_observation(observation, self._conventions))
        answer = self._answer()
        if answer.kind == "error":
            if answer.seq != self._seq:  # to what began the episode: the answer to this observation is still to come
                self.close()
            raise EpisodeError(f"{self._url}: {answer.payload.get('error')}")
        actions = answer.payload.get("actions", answer.payload.get("action"))
        if not isinstance(actions, np.ndarray) or actions.shape != self._signs.shape:
            raise EpisodeError(
                f"{self._url} answers with {shown(actions)} under {sorted(answer.payload)}, expected one action of "
                f"{len(self._signs)} numbers; where it sends whole chunks, set its chunk_size."
            )
        return Chunk(
            actions=(actions.astype(np.float32) * self._signs)[None], execute=1, latency=time.perf_counter() - started
        )

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> dict[str, Any]:
        try:
            self._socket = connect(
                self._url, max_size=LARGEST, compression=None, open_timeout=self._timeout, ping_interval=None
            )
            said = {"harness_version": f"volar {volar.__version__}", "protocol_version": PROTOCOL_VERSION}
            self._send("hello", said)
            answer = self._answer()
        except (OSError, WebSocketException, EpisodeError) as error:
            raise ConfigError(f"No model server of vla-eval answers at {self._url} ({error}).") from error
        if answer.kind != "hello" or answer.payload.get("protocol_version") != PROTOCOL_VERSION:
            raise ConfigError(
                f"{self._url} answers {answer.kind!r} in version {answer.payload.get('protocol_version')!r} of the "
                f"protocol, expected 'hello' in {PROTOCOL_VERSION}."
            )
        return dict(answer.payload)

    def _require_agreement(self) -> None:
        ours, problems = declared(self._conventions), []
        for kind in ("action_spec", "observation_spec"):
            theirs = self.server.get(kind) or {}
            if not isinstance(theirs, dict):
                raise ConfigError(f"{self._url} declares a {kind} that is no map: {theirs!r}.")
            for name, spec in theirs.items():
                if not isinstance(spec, dict):
                    raise ConfigError(f"{self._url} declares {name!r} in its {kind} as {spec!r}, expected a map.")
                meant = ours[kind].get(name, {}).get("format")
                if meant not in (spec.get("format"), *spec.get("accepts", ())):
                    problems.append(f"{kind} {name!r}: {meant or 'absent'} declared, the server: {spec.get('format')}")
        if problems:
            self.close()
            raise ConfigError(f"The conventions are not those of {self._url}:\n  " + "\n  ".join(problems))

    def _send(self, kind: str, payload: dict[str, Any]) -> None:
        if self._socket is None:
            raise EpisodeError(f"The connection to {self._url} is lost.")
        self._seq += 1
        try:
            self._socket.send(pack_message(kind, payload, self._seq))
        except (OSError, WebSocketException) as error:
            self.close()
            raise EpisodeError(f"{self._url} is gone ({type(error).__name__}: {error}).") from error

    def _answer(self) -> Message:
        """To what was sent last. What answers an earlier message comes too late, or was never asked for."""
        assert self._socket is not None
        try:
            while True:
                message = unpack_message(self._socket.recv(timeout=self._timeout))
                if message.seq == self._seq or message.kind == "error":
                    return message
        except (OSError, WebSocketException, EpisodeError) as error:
            self.close()
            raise EpisodeError(f"{self._url} did not answer ({type(error).__name__}: {error}).") from error
