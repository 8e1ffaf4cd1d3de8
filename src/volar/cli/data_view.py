"""`volar data view PATH --out DIR`: an offline HTML browser of a data set's episodes."""

import webbrowser
from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.cli.output import Output


@dataclass(frozen=True, kw_only=True)
class View:
    """Write a folder of HTML to look at episodes: films in step with curves, marks and findings; needs no network."""

    data: tyro.conf.Positional[str]
    """folder or URL of a data set"""
    out: Path
    """folder of the page; films that are there already are kept"""
    episodes: str | None = None
    """which, such as 0-19,40 or @FILE of `volar data curate`; by default all"""
    check: bool = True
    """look for what `volar data check` finds, in the whole data set, and show it"""
    open: bool = False
    """show it in the browser"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(View, prog="volar data view", args=arguments)

    from volar.data.check import check
    from volar.data.formats import open_dataset
    from volar.data.selection import parse_episodes
    from volar.data.view import require_ours, write_view

    dataset = open_dataset(command.data, lazy=not command.check)
    episodes = None if command.episodes is None else parse_episodes(command.episodes, len(dataset.episodes))
    require_ours(dataset, command.out)  # before a check, which may take long
    findings = check(dataset, progress=True) if command.check else ()
    page = write_view(dataset, command.out, episodes=episodes, findings=findings)
    if command.open:
        webbrowser.open(page.resolve().as_uri())
    return Output({"page": str(page), "findings": len(findings)}, f"Page: {page}")
