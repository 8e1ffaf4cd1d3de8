"""The result as a table for a terminal and as Markdown for a pull request."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from volar.evaluation.summary import ArmResult, Rate, Summary
from volar.evaluation.verdict import checks, verdict, warnings
from volar.evaluation.wording import DASH, label, number, percent, percent_range, points, points_range, task_labels
from volar.statistics.intervals import Interval

MEAN = "mean of tasks"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arm on one task as a reader sees it, for example '85 %', '64–95 %', '17/20'."""

    rate: str
    interval: str
    counts: str


def result_rows(summary: Summary) -> list[tuple[str, list[Cell]]]:
    """(task, one cell per arm), the mean of tasks last."""
    names = task_labels(summary.run.tasks)
    rows = [(names[task], [_task_cell(arm.tasks[task]) for arm in summary.arms]) for task in summary.run.tasks]
    return [*rows, (MEAN, [_mean_cell(arm) for arm in summary.arms])]


def robustness_rows(summary: Summary) -> list[tuple[str, str, str, dict[int, Cell]]]:
    """(axis, arm, area under the curve, level -> cell); a cell's counts are its change against level 0 in points."""
    rows = []
    for curve in summary.robustness:
        cells = {
            level.level: Cell(
                rate=percent(level.rate.estimate), interval=percent_range(level.rate),
                counts="" if level.drop is None else f"{points(level.drop.estimate)} ({points_range(level.drop)})",
            )
            for level in curve.levels
        }  # fmt: skip
        rows.append((curve.axis, curve.arm, DASH if curve.area is None else percent(curve.area), cells))
    return rows


def robustness_markdown(summary: Summary) -> list[str]:
    """A table of how success degrades, or nothing where no task is perturbed."""
    rows = robustness_rows(summary)
    if not rows:
        return []
    levels = sorted({level for *_, cells in rows for level in cells})
    lines = ["", "How it degrades: success, and its change in points against level 0 on the same scenes.", ""]
    lines += [row(["axis", "arm", "area", *map(str, levels)]), row(["---", "---", *["---:"] * (len(levels) + 1)])]
    for axis, arm, area, cells in rows:
        shown = [
            " ".join(filter(None, (cells[level].rate, cells[level].counts))) if level in cells else DASH
            for level in levels
        ]
        lines.append(row([axis, label(arm), area, *shown]))
    return lines


def suite_markdown(suite: Mapping[str, Any] | None) -> list[str]:
    """How a number on the suite is to be read, as `volar evaluate --suite` recorded it; nothing without a suite."""
    if suite is None:
        return []
    rules = [suite["saturation"], *suite["reading"]]
    values = suite["reference_values"]
    rules += [f"Reference values: {'; '.join(values)}."] if values else []
    head = f"Suite {suite['name']}, protocol: {suite['protocol']}. How to read it:"
    return ["", escape(head), "", *(f"- {escape(rule)}" for rule in rules if rule)]


def thought_markdown(summary: Summary) -> list[str]:
    """A line per arm that reasons; nothing where none does."""
    lines = [
        f"- {escape(label(arm.name))} thinks {number(arm.tokens)} tokens per decision; the oldest part of what it goes "
        f"by is {number(arm.thought_age)} looks old in the mean."
        for arm in summary.arms if arm.tokens is not None and arm.thought_age is not None
    ]  # fmt: skip
    return ["", *lines] if lines else []


def _task_cell(rate: Rate) -> Cell:
    if rate.interval is None:
        return Cell(rate=DASH, interval="", counts=f"{rate.broken} broken" if rate.broken else "no episodes")
    return _cell(rate.interval, rate.successes, rate.scored)


def _mean_cell(arm: ArmResult) -> Cell:
    if arm.overall is None:
        return Cell(rate=DASH, interval="", counts="incomplete")
    return _cell(arm.overall, arm.successes, arm.scored)


def _cell(interval: Interval, successes: int, scored: int) -> Cell:
    return Cell(rate=percent(interval.estimate), interval=percent_range(interval), counts=f"{successes}/{scored}")


def print_table(summary: Summary, console: Console | None = None) -> None:
    """Verdict, success per task and arm with 95 % intervals, checks and warnings. Default: standard output."""
    screen = console or Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("task", overflow="fold")
    for arm in summary.arms:
        table.add_column(Text(label(arm.name)), justify="right", overflow="fold")
    for task, cells in result_rows(summary):
        bold = "bold" if task == MEAN else ""
        table.add_row(Text(task, style=bold), *(_lines(cell, bold) for cell in cells))
    screen.print(Text(verdict(summary), style="bold"))
    screen.print(table)
    for check in checks(summary):
        screen.print(Text.assemble((f"{check.question} {check.answer.capitalize()}. ", "bold"), check.sentence))
    for warning in warnings(summary):
        screen.print(Text.assemble(("Note: ", "bold yellow"), warning))


def _lines(cell: Cell, style: str) -> Text:
    return Text.assemble((cell.rate, style), (f"\n{cell.interval}\n{cell.counts}", "dim"), justify="right")


def to_markdown(summary: Summary) -> str:
    """Title, verdict, table, checks and warnings; every text of the run is escaped."""
    head = ["task", *(label(arm.name) for arm in summary.arms)]
    lines = [f"### {escape(summary.run.title)}", "", f"**{escape(verdict(summary))}**", ""]
    lines += [row(head), row(["---", *["---:"] * len(summary.arms)])]
    for task, cells in result_rows(summary):
        lines.append(row([task, *(" · ".join(filter(None, astuple(cell))) for cell in cells)]))
    lines += [
        *thought_markdown(summary),
        *robustness_markdown(summary),
        *suite_markdown(summary.run.settings.get("suite")),
        "",
    ]
    lines += [
        f"- {check.question} **{check.answer.capitalize()}**. {escape(check.sentence)}" for check in checks(summary)
    ]
    lines += [f"- Note: {escape(warning)}" for warning in warnings(summary)]
    return "\n".join(lines).rstrip() + "\n"


def row(cells: list[str]) -> str:
    """One row of a Markdown table; a cell of dashes and colons is an alignment."""
    return "| " + " | ".join(cell if set(cell) <= set("-:") else escape(cell) for cell in cells) + " |"


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
