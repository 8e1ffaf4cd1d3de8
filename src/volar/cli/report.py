"""`volar report RUN`: the page and results.json of an evaluation."""

import webbrowser
from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.cli.output import Output


@dataclass(frozen=True, kw_only=True)
class Report:
    """Make one self-contained HTML page, and results.json beside it."""

    run: tyro.conf.Positional[Path]
    """folder of an evaluation"""
    out: Path | None = None
    """the page; by default report.html in the run's folder"""
    open: bool = False
    """show it in the browser"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Report, prog="volar report", args=arguments)

    from volar.evaluation.report import write_report

    page = write_report(command.run, command.out)
    if command.open:
        webbrowser.open(page.resolve().as_uri())
    return Output({"report": str(page), "results": str(page.with_name("results.json"))}, f"Report: {page}")
