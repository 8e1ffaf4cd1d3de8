"""A WebSocket on which every message gets one answer: what clients of policies and of environments have in common.

It knows nothing of what is said. Whoever listens sends a card first, which names the protocol.
"""

from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from volar.core.errors import ConfigError, EpisodeError
from volar.core.wire import LARGEST, pack, unpack


class Lost(EpisodeError):
    """The other side went away, did not answer in time, or sent what is no message; the connection is closed."""


class Connection:
    """Final. Open as soon as it is made. `card`: what the other side says of itself.

    remedy: what to do when nobody answers. timeout: seconds that the other side may take for one answer. Raises
    ConfigError where nobody answers, the token is refused, or another protocol is spoken.
    """

    def __init__(
        self, url: str, *, protocol: str, remedy: str, token: str | None = None, timeout: float = 60.0
    ) -> None:  # fmt: skip
        headers = {"Authorization": f"Api-Key {token}"} if token else None
        self.url, self._timeout = url, timeout
        self._socket: ClientConnection | None = None
        try:
            self._socket = connect(
                url, additional_headers=headers, max_size=LARGEST, compression=None, open_timeout=timeout
            )
            self.card = unpack(self._socket.recv(timeout=timeout))
        except (OSError, ValueError, WebSocketException, EpisodeError) as error:
            self.close()
            raise ConfigError(f"Nobody answers as agreed at {url} ({error}). {remedy}") from error
        if "error" in self.card or self.card.get("protocol") != protocol:
            self.close()
            said = self.card.get("error", f"it speaks {self.card.get('protocol')!r}, expected {protocol!r}")
            raise ConfigError(f"{url}: {said}.")

    @property
    def open(self) -> bool:
        return self._socket is not None

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer, which may be a refusal: a map with `error`. Raises Lost."""
        if self._socket is None:
            raise Lost(f"The connection to {self.url} is lost.")
        try:
            self._socket.send(pack(message))
            return unpack(self._socket.recv(timeout=self._timeout))
        except (OSError, WebSocketException, EpisodeError) as error:
            self.close()
            raise Lost(f"{self.url} did not answer ({type(error).__name__}: {error}).") from error

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
