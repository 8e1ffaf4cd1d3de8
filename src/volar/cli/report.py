"""`volar report RUN`: the page and the JSON of an evaluation or a comparison."""

import webbrowser
from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.cli.output import Output


@dataclass(frozen=True, kw_only=True)
class Report:
    """Make one self-contained HTML page, and results.json beside it (of a comparison result.json and summary.md)."""

    run: tyro.conf.Positional[Path]
    """folder of an evaluation or a comparison"""
    out: Path | None = None
    """the page; by default report.html in the run's folder"""
    open: bool = False
    """show it in the browser"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Report, prog="volar report", args=arguments)

    if (command.run / "protocol.json").is_file():
        from volar.comparison.page import write_comparison_page

        page = write_comparison_page(command.run, command.out)
        results = page.with_name("result.json")
    else:
        from volar.evaluation.report import write_report

        page = write_report(command.run, command.out)
        results = page.with_name("results.json")
    if command.open:
        webbrowser.open(page.resolve().as_uri())
    return Output({"report": str(page), "results": str(results)}, f"Report: {page}")
