"""Simulations in worker processes, each with a simulator of its own. A worker that dies costs time, never a result:
what was in hand is simulated again. The episodes themselves must then run in a process that may have children.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from types import TracebackType

from volar.core.errors import ConfigError, RobotFault
from volar.planning.planner import Expired, Request, Simulated
from volar.planning.simulation import Simulator

DEATHS_ALLOWED = 3  # in a row, without a simulation finished in between
POLL = 0.01  # seconds between two looks at the clock while workers are busy


class _Hand:
    """What one worker process holds. Only ever filled inside a worker."""

    simulator: Simulator | None = None
    stop: "Synchronized[int] | None" = None
    instruction: str | None = None


def _fill(make: Callable[[], Simulator], stop: "Synchronized[int]") -> None:
    _Hand.simulator, _Hand.stop = make(), stop


def _work(request: Request, instruction: str) -> Simulated:
    simulator, stop = _Hand.simulator, _Hand.stop
    assert simulator is not None and stop is not None
    if instruction != _Hand.instruction:
        simulator.begin(instruction)
        _Hand.instruction = instruction
    return simulator([request], lambda: bool(stop.value))[0]


class SimulatorPool:
    """`size` processes (spawn), each with what `make` gives: a module-level function or functools.partial of one.
    Use as a context manager or call `close`. Results do not depend on the number of processes."""

    def __init__(self, make: Callable[[], Simulator], size: int) -> None:
        if size < 1:
            raise ConfigError(f"A pool of simulators has at least 1 process, got {size}.")
        if multiprocessing.current_process().daemon:
            raise ConfigError("This process may have no children: run the episodes with --workers 0 to use a pool.")
        self._make, self._size = make, size
        self._context = multiprocessing.get_context("spawn")
        self._stop: Synchronized[int] = self._context.Value("i", 0)
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._size, mp_context=self._context, initializer=_fill, initargs=(self._make, self._stop)
        )

    def __call__(self, requests: Sequence[Request], expired: Expired, *, instruction: str) -> list[Simulated]:
        """In the order of the requests. RobotFault when workers keep dying."""
        results: dict[int, Simulated] = {}
        deaths = 0
        self._stop.value = 0
        while len(results) < len(requests):
            before = len(results)
            try:
                waiting = {
                    self._pool.submit(_work, request, instruction): place
                    for place, request in enumerate(requests)
                    if place not in results
                }
                self._collect(waiting, results, expired)
            except BrokenProcessPool as error:
                deaths = deaths + 1 if len(results) == before else 1
                if deaths >= DEATHS_ALLOWED:
                    raise RobotFault(
                        f"{deaths} times in a row a simulating worker died at once ({error}); "
                        f"simulate without a pool to see why."
                    ) from error
                self._pool.shutdown(wait=False)
                self._pool = self._start()
        return [results[place] for place in range(len(requests))]

    def _collect(self, waiting: dict[Future[Simulated], int], results: dict[int, Simulated], expired: Expired) -> None:
        """Keeps what is done before a death is noticed."""
        open_ones = set(waiting)
        while open_ones:
            done, open_ones = wait(open_ones, timeout=POLL, return_when="FIRST_COMPLETED")
            if not self._stop.value and expired():
                self._stop.value = 1
            whole = [future for future in done if not isinstance(future.exception(), BrokenProcessPool)]
            results.update({waiting[future]: future.result() for future in whole})
            if len(whole) < len(done):
                raise BrokenProcessPool("it was killed or could not start")

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "SimulatorPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
