"""`volar data view PATH --out DIR`: an offline HTML browser of a data set's episodes."""

import re
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.cli.output import Output
from volar.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class View:
    """Write a folder of HTML to look at episodes: films in step with curves, marks and findings; needs no network."""

    data: tyro.conf.Positional[str]
    """folder of a data set"""
    out: Path
    """folder of the page; films that are there already are kept"""
    episodes: str | None = None
    """which, such as 0-19 or 3,7,100-120; by default all"""
    open: bool = False
    """show it in the browser"""


def episode_numbers(text: str) -> list[int]:
    """The numbers that "0-19" or "3,7,100-120" stand for, both ends included. Raises ConfigError for other texts."""
    numbers: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise ConfigError(f"Episodes are given as 0-19 or 3,7,100-120, got {text!r}.")
        numbers.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return sorted(numbers)


def main(arguments: list[str]) -> Output:
    command = tyro.cli(View, prog="volar data view", args=arguments)
    numbers = None if command.episodes is None else episode_numbers(command.episodes)

    from volar.data.formats import open_dataset
    from volar.data.view import write_view

    page = write_view(open_dataset(command.data), command.out, episodes=numbers)
    if command.open:
        webbrowser.open(page.resolve().as_uri())
    return Output({"page": str(page)}, f"Page: {page}")
