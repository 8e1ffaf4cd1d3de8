"""Progress on the terminal: a bar with remaining time and running successes, or a line now and then in a log."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SILENT_SECONDS = 5.0  # shorter work shows nothing
LOG_SECONDS = 30.0  # between two lines where stderr is no terminal


class Progress:
    """Counts finished episodes; a context manager. Writes to stderr only."""

    def __init__(self, total: int, *, shown: bool) -> None:
        self._total, self._shown = total, shown
        self._done = self._successes = self._errors = 0
        self._started = self._logged = time.monotonic()
        self._bar: Bar | None = None
        self._task = TaskID(0)

    def advance(self, *, success: bool, error: bool) -> None:
        self._done += 1
        self._successes += success
        self._errors += error
        if not self._shown or time.monotonic() - self._started < SILENT_SECONDS:
            return
        if sys.stderr.isatty():
            self._draw()
        else:
            self._log()

    def _counts(self) -> str:
        return f"{self._successes} successes" + (f", {self._errors} errors" if self._errors else "")

    def _draw(self) -> None:
        if self._bar is None:
            self._bar = Bar(
                TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
                TimeRemainingColumn(), console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total)
        self._bar.update(self._task, completed=self._done, description=self._counts())

    def _log(self) -> None:
        now = time.monotonic()
        if now - self._logged >= LOG_SECONDS or self._done == self._total:
            self._logged = now
            remaining = (now - self._started) / self._done * (self._total - self._done)
            print(
                f"episodes {self._done}/{self._total}, {self._counts()}, about {remaining:.0f} s left", file=sys.stderr
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
