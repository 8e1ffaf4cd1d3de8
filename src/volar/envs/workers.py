"""Worker processes that may die: each runs one group of jobs at a time, and a death costs that group only.

A process pool of the standard library gives up as a whole when one member dies. POSIX only.
"""

import os
import signal
import threading
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pickle import PicklingError

from volar.core.errors import ConfigError, RobotFault
from volar.core.robot import Episode, Job, Outcome

DEATHS_ALLOWED = 5  # in a row, without an episode finished in between
LEAD = 4  # episodes per worker that may be finished ahead of the one that is due, when they are wanted in order
READY = "ready"


Group = tuple[Job, ...]  # jobs that one process runs in one go


class Run(ABC):
    """What a worker does; sent to it by pickle. An exception of `__call__` stops the whole run."""

    @abstractmethod
    def __call__(self, group: Group) -> tuple[Episode, ...]: ...

    @abstractmethod
    def close(self) -> None: ...


@dataclass
class _Worker:
    process: BaseProcess
    pipe: connection.Connection
    started: bool = False
    index: int | None = None  # of the group it has in hand


class WorkerPool:
    """`size` processes that start afresh (spawn), so that nothing of this process's threads or OpenGL leaks in."""

    def __init__(self, run: Run, size: int) -> None:
        try:
            ForkingPickler.dumps(run)
        except (PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"With workers, make_env and make_actor must be module-level functions or functools.partial of such "
                f"({error}). Use workers=0 to run in this process."
            ) from error
        self._run, self._size = run, size
        self._workers: list[_Worker] = []
        self._deaths = 0

    def run(self, groups: Sequence[Group], *, ordered: bool) -> Generator[tuple[Episode, ...], None, None]:
        """Every group's episodes, as they finish or in the order of the groups. Groups start in their order."""
        waiting = deque(range(len(groups)))
        finished: dict[int, tuple[Episode, ...]] = {}
        due = 0
        try:
            for _ in range(self._size):
                self._workers.append(self._start())
            while due < len(groups):
                lead = LEAD * self._size if ordered else len(groups)
                self._hand_out(groups, waiting, limit=due + lead)
                finished |= self._collect(groups)
                self._hand_out(groups, waiting, limit=due + lead)  # before the caller takes its time over an episode
                for index in sorted(finished):
                    if not ordered or index == due:
                        due += 1
                        yield finished.pop(index)
            for worker in self._workers:
                self._send(worker, None)
            for worker in self._workers:
                worker.process.join(timeout=5)
        finally:
            self._stop()

    def _hand_out(self, groups: Sequence[Group], waiting: deque[int], *, limit: int) -> None:
        for worker in self._workers:
            idle = worker.started and worker.index is None
            if idle and waiting and waiting[0] < limit and self._send(worker, groups[waiting[0]]):
                worker.index = waiting.popleft()

    def _collect(self, groups: Sequence[Group]) -> dict[int, tuple[Episode, ...]]:
        """Wait for news. Replaces workers that died; raises what a worker could not go on with."""
        finished = {}
        ready = connection.wait([worker.pipe for worker in self._workers])
        for place, worker in enumerate(self._workers):
            if worker.pipe not in ready:
                continue
            try:
                news = worker.pipe.recv()
            except (EOFError, OSError):
                if worker.index is not None:
                    finished[worker.index] = _lost(groups[worker.index], _obituary(worker.process))
                self._workers[place] = self._replace(worker)
                continue
            if isinstance(news, Exception):
                raise news
            if isinstance(news, tuple):
                assert worker.index is not None
                finished[worker.index] = news
                worker.index, self._deaths = None, 0
            worker.started = True
        return finished

    def _replace(self, dead: _Worker) -> _Worker:
        end = _obituary(dead.process)
        dead.pipe.close()
        self._deaths += 1
        if self._deaths >= DEATHS_ALLOWED:
            if dead.started:
                raise RobotFault(f"{self._deaths} workers in a row died without finishing an episode; the last {end}.")
            raise ConfigError(
                f"{self._deaths} workers in a row died while starting; the last {end}. Does the calling script keep "
                f'its work under `if __name__ == "__main__":`? Try workers=0 to see the error.'
            )
        return self._start()

    def _start(self) -> _Worker:
        ours, theirs = get_context("spawn").Pipe()
        process = get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
        with _environment_of_workers():
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._send(worker, self._run)
        return worker

    def _send(self, worker: _Worker, what: Run | Group | None) -> bool:
        """False when it died meanwhile: `_collect` finds out."""
        try:
            worker.pipe.send(what)
        except BrokenPipeError:
            return False
        return True

    def _stop(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(timeout=2)
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()


@contextmanager
def _environment_of_workers() -> Iterator[None]:
    """What a process inherits when it is started inside: one thread of arithmetic, since there is one process per
    core, and Ctrl-C blocked, since the terminal sends it to all and this process ends the others."""
    resource_tracker.ensure_running()  # the first process would start it, which unblocks Ctrl-C again (CPython 3.11)
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads


def _serve(pipe: connection.Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        run = _receive(pipe)
        pipe.send(READY)
        while (group := pipe.recv()) is not None:
            pipe.send(run(group))
        run.close()
    except Exception as error:  # the parent decides; a worker has nobody else to tell
        pipe.send(_portable(error))


def _receive(pipe: connection.Connection) -> Run:
    try:
        return pipe.recv()
    except Exception as error:  # importing a stranger's module may raise anything
        raise ConfigError(
            f"A worker could not import make_env or make_actor ({type(error).__name__}: {error}). Define them in a "
            f"module, or use workers=0."
        ) from error


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The error as one that any process can unpickle, with the worker's traceback as a note."""
    kind = type(error) if type(error) in (ConfigError, RobotFault) else RuntimeError
    message = str(error) if kind is type(error) else f"{type(error).__name__}: {error}"
    portable = kind(message)
    portable.add_note("In the worker:\n" + "".join(traceback.format_exception(error)))
    return portable


def _obituary(process: BaseProcess) -> str:
    process.join(timeout=5)
    code = process.exitcode
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _lost(group: Group, end: str) -> tuple[Episode, ...]:
    return tuple(
        Episode(
            job=job,
            instruction=job.instruction or "",
            outcome=Outcome.ERROR,
            steps=0,
            first_observation="",
            executed_per_chunk=0,
            error=f"The worker process {end}.",
        )
        for job in group
    )
