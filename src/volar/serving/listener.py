"""A WebSocket that listens, and who may talk to it. What is said there is the business of whoever makes it."""

import base64
import hmac
import threading
from abc import ABC, abstractmethod

from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from volar.core.errors import ConfigError
from volar.core.wire import LARGEST

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Listener(ABC):
    """Listens as soon as it is made; `run` answers until `stop`. As a context manager it runs in a thread of its own.

    Raises ConfigError for a host that others can reach without a token, and for a port that is taken.
    """

    health = ("/healthz", "OK\n")  # path at which a plain GET learns that all is well, and what it reads
    ping_seconds: float | None = 20.0  # whoever does not answer a ping for as long is gone; None waits for ever

    def __init__(self, *, host: str, port: int, token: str | None) -> None:
        if host not in LOOPBACK and not token:
            raise ConfigError(f"Others can reach {host!r}; give a token, or bind to 127.0.0.1.")
        self._host, self._token = host, token
        try:
            self._server: Server = serve(
                self.talk, host, port, max_size=LARGEST, compression=None, process_request=self._admit,
                ping_interval=self.ping_seconds,
            )  # fmt: skip
        except OSError as error:
            raise ConfigError(f"Cannot listen on {host}:{port} ({error.strerror}); choose another port.") from error

    @abstractmethod
    def talk(self, connection: ServerConnection) -> None:
        """Called in a thread of its own with every connection; when it returns, the connection is closed."""

    @property
    def address(self) -> str:
        """`host:port`"""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._server.socket.getsockname()[1]}"

    @property
    def url(self) -> str:
        return f"ws://{self.address}"

    def run(self) -> None:
        self._server.serve_forever()

    def stop(self) -> None:
        self._server.shutdown()

    def __enter__(self) -> "Listener":
        threading.Thread(target=self.run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        path, words = self.health
        if request.path == path:
            return connection.respond(200, words)
        if self._token is None:
            return None
        if hmac.compare_digest(_given(request.headers.get("Authorization", "")), self._token.encode()):
            return None
        return connection.respond(401, "A valid token is needed.\n")


def _given(authorization: str) -> bytes:
    """The token as `Api-Key TOKEN`, as `Bearer TOKEN`, or as the password in `ws://anyone:TOKEN@host`."""
    kind, _, given = authorization.partition(" ")
    if kind != "Basic":
        return given.encode()
    try:
        return base64.b64decode(given, validate=True).partition(b":")[2]
    except ValueError:
        return b""
