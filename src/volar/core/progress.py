"""A bar on stderr with the remaining time, for whatever takes longer than a glance."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def counting(label: str, total: int, *, shown: bool, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yields a function to be called with the number of things that have just been done; none are fine too.

    done: things that were finished by an earlier run.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown or not total) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda count: bar.advance(task, count)
