"""`volar data check PATH`: what is wrong with a data set, as a table, as JSON, and as an exit code for CI."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import tyro

from volar.cli.output import Output
from volar.cli.tables import show

if TYPE_CHECKING:
    from volar.data.findings import Finding

FOUND = 2  # exit code; the data set cannot be used as it is, as any other request that cannot work


@dataclass(frozen=True, kw_only=True)
class CheckCommand:
    """Look for what is wrong with a data set. Exit code 2 if anything is as bad as --fail-on, else 0."""

    data: tyro.conf.Positional[str]
    """folder or URL of a data set"""
    fail_on: Literal["error", "warning", "note"] = "error"
    """from which severity on findings make the exit code 2"""
    pictures: Literal["sampled", "every", "none"] = "sampled"
    """decode a dozen of every episode and camera, all of them (minutes to hours), or none"""
    all: bool = False
    """list every finding instead of one line per kind"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(CheckCommand, prog="volar data check", args=arguments)

    from volar.data.check import check_path
    from volar.data.findings import Severity

    findings = check_path(command.data, pictures=command.pictures, progress=True)
    counts = {severity.value: sum(found.severity is severity for found in findings) for severity in Severity}
    failed = any(found.severity.rank >= Severity(command.fail_on).rank for found in findings)
    data = {"data": command.data, "counts": counts, "findings": [found.to_json() for found in findings]}
    return Output(data, _text(findings, counts, every=command.all), exit_code=FOUND if failed else 0)


def _text(findings: "Sequence[Finding]", counts: dict[str, int], *, every: bool) -> str:
    if not findings:
        return "Nothing found."
    key = (lambda found: id(found)) if every else (lambda found: (found.severity, found.code, found.place.feature))
    rows = [_row(list(group)) for _, group in groupby(findings, key)]
    table = show(("severity", "finding", "where", "what was seen", "remedy"), rows)
    total = ", ".join(f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items())
    return f"{table}\n{total}" + ("" if every else "; --all lists each, docs/data.md explains them")


def _row(group: "list[Finding]") -> tuple[Any, ...]:
    """The first of a kind stands for all, worded by itself; the others are counted by episode."""
    first = group[0]
    more = [str(found.place.episode) for found in group[1:]]
    others = f"\nalso in {len(more)} more: {', '.join(more[:8])}{', ...' * (len(more) > 8)}" if more else ""
    return first.severity.value, first.code, f"{first.place}{others}", first.seen, first.remedy
