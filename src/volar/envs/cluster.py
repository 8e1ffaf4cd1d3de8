"""The same groups of jobs on a Ray cluster: nodes may come, go and die, and every group is counted once.

The only door to Ray. The policies' files and this package must be reachable on every node.
"""

import logging
import socket
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

from volar.core.errors import ConfigError, RobotFault
from volar.core.robot import Episode
from volar.envs.workers import Group, Run

DEATHS_ALLOWED = 20  # of workers, without a group finished in between


class RayPool:
    """`size` workers with one CPU each on the cluster at `address` ("auto", "ray://host:10001", "host:6379")."""

    def __init__(self, run: Run, size: int, *, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise ConfigError("Running on a cluster needs Ray: pip install 'volar[ray]'.") from error
        self._ray: Any = ray
        if not ray.is_initialized():
            try:
                _knock(address)
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (OSError, ValueError, RuntimeError) as error:
                raise ConfigError(
                    f"No Ray cluster answers at {address!r} ({error}). Start one: ray start --head."
                ) from error
        self._worker = ray.remote(num_cpus=1, max_restarts=0, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}})(
            _Worker
        )
        self._run, self._size = ray.put(run), size
        self._deaths = 0

    def run(self, groups: Sequence[Group], *, ordered: bool) -> Generator[tuple[Episode, ...], None, None]:
        """Every group's episodes, as they finish or in the order of the groups. A group whose worker or node died is
        run again elsewhere; what a dead node had finished but not handed over is not counted."""
        waiting = deque(range(len(groups)))
        finished: dict[int, tuple[Episode, ...]] = {}
        busy: dict[Any, tuple[int, Any]] = {}
        due = 0
        idle = [self._start() for _ in range(self._size)]
        try:
            while due < len(groups):
                while idle and waiting:
                    index, worker = waiting.popleft(), idle.pop()
                    busy[worker.run.remote(groups[index])] = index, worker
                done, _ = self._ray.wait(list(busy), num_returns=1)
                for reference in done:
                    index, worker = busy.pop(reference)
                    episodes = self._collect(reference)
                    if episodes is None:
                        waiting.appendleft(index)
                        idle.append(self._start())
                    else:
                        finished[index], self._deaths = episodes, 0
                        idle.append(worker)
                for index in sorted(finished):
                    if not ordered or index == due:
                        due += 1
                        yield finished.pop(index)
        finally:
            for worker in [*idle, *(worker for _, worker in busy.values())]:
                self._ray.kill(worker)

    def _start(self) -> Any:
        return self._worker.remote(
            [self._run]
        )  # in a list it stays a reference, to be fetched where errors can be told

    def _collect(self, reference: Any) -> tuple[Episode, ...] | None:
        """None when the worker died; raises what it could not go on with."""
        try:
            outcome = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            self._deaths += 1
            if self._deaths > DEATHS_ALLOWED:
                raise RobotFault(f"{self._deaths} workers died without finishing a group; the last: {error}") from error
            return None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def _knock(address: str) -> None:
    """OSError when nobody listens there; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()


class _Worker:
    """What runs in a process of the cluster."""

    def __init__(self, reference: list[Any]) -> None:
        self._reference = reference
        self._run: Run | None = None

    def run(self, group: Group) -> tuple[Episode, ...] | ConfigError | RobotFault:
        try:
            if self._run is None:
                self._run = self._fetch()
            return self._run(group)
        except (ConfigError, RobotFault) as error:
            return type(error)(str(error))

    def _fetch(self) -> Run:
        import ray
        from ray.exceptions import RaySystemError

        try:
            return ray.get(self._reference[0])
        except RaySystemError as error:
            last = str(error).strip().splitlines()[-1]
            raise ConfigError(f"A node of the cluster cannot load what the episodes need ({last}).") from error
