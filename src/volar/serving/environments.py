"""Environments behind a WebSocket, one per connection, each in a process of its own: a simulator that crashes, hangs or
leaks takes nobody with it. The listening process imports no simulator.
"""

import platform
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.sync.server import ServerConnection

import volar
from volar.core.errors import ConfigError, EpisodeError
from volar.core.wire import ENVIRONMENT_PROTOCOL, pack
from volar.envs import TABLE
from volar.serving.listener import Listener
from volar.serving.worlds import serve_world

MOST = 64  # worlds at a time; each is a process of some 100 MB or more
KEPT = 4  # idle worlds, whose simulator is already imported
CLOSE_WITHIN = 10.0  # seconds for a simulator to shut down
GONE = 1.0  # seconds between two looks whether whoever asked is still there


class _Process:
    """A world and the pipe to it."""

    def __init__(self, served: Sequence[str]) -> None:
        self._pipe, theirs = get_context("spawn").Pipe()
        self._process: BaseProcess = get_context("spawn").Process(
            target=serve_world, args=(theirs, tuple(served)), daemon=True
        )
        self._process.start()
        theirs.close()

    def ask(self, data: bytes, client: ServerConnection) -> bytes:
        """The answer. Raises EpisodeError when the process died, TimeoutError when `client` did not wait for it."""
        try:
            self._pipe.send_bytes(data)
            while not self._pipe.poll(GONE):
                if client.state is not State.OPEN:
                    raise TimeoutError
            return self._pipe.recv_bytes()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self._process.join(timeout=5)
            raise EpisodeError(f"The environment's process ended with exit code {self._process.exitcode}.") from error

    def forget(self) -> bool:
        """Drop the environment, keep the process. False when that does not work."""
        try:
            self._pipe.send_bytes(pack({"type": "close"}))
            return self._pipe.poll(CLOSE_WITHIN) and bool(self._pipe.recv_bytes())
        except (EOFError, OSError):
            return False

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


class EnvironmentServer(Listener):
    """served: environments, or single tasks `environment/task`, that clients may ask for. ConfigError for unknown."""

    def __init__(
        self, served: Sequence[str], *, host: str = "127.0.0.1", port: int = 0, token: str | None = None
    ) -> None:
        if not served:
            raise ConfigError(f"Name at least one environment to serve: {', '.join(TABLE)}.")
        for name in served:
            TABLE[name.partition("/")[0]]
        self._served = tuple(served)
        self._idle: list[_Process] = []
        self._stopped = False
        self._places = threading.BoundedSemaphore(MOST)
        self._card = {
            "protocol": ENVIRONMENT_PROTOCOL, "volar": volar.__version__, "python": platform.python_version(),
            "served": list(served),
        }  # fmt: skip
        super().__init__(host=host, port=port, token=token)

    def talk(self, connection: ServerConnection) -> None:
        if not self._places.acquire(blocking=False):
            connection.send(pack({"error": f"{MOST} environments are in use here already"}))
            return
        try:
            with self._world() as world:
                connection.send(pack(self._card))
                while True:
                    data = connection.recv()
                    connection.send(world.ask(data if isinstance(data, bytes) else data.encode(), connection))
        except EpisodeError as died:
            with suppress(ConnectionClosed):
                connection.send(pack({"error": str(died), "kind": EpisodeError.__name__}))
        except (ConnectionClosed, TimeoutError):
            return
        finally:
            self._places.release()

    def stop(self) -> None:
        self._stopped = True
        super().stop()
        self._end_idle()

    def _end_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().end()

    @contextmanager
    def _world(self) -> Iterator[_Process]:
        """A process that is kept for the next client when this one leaves between two messages, else ended."""
        world = self._next()
        try:
            yield world
        except ConnectionClosed:
            if not self._stopped and len(self._idle) < KEPT and world.forget():
                self._idle.append(world)
            else:
                world.end()
            if self._stopped:  # while the world forgot
                self._end_idle()
        except BaseException:
            world.end()
            raise

    def _next(self) -> _Process:
        while True:
            try:
                world = self._idle.pop()
            except IndexError:
                return _Process(self._served)
            if world.alive:
                return world
            world.end()
