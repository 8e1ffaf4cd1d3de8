"""The outcome of a comparison as Markdown for a pull request: verdict, notes, rates, differences, compute."""

from collections.abc import Sequence

from volar.comparison.axes import amount
from volar.comparison.result import PairOutcome, Result
from volar.comparison.words import guard_sentences, limit, recipe_sentence
from volar.evaluation.tables import escape, row
from volar.evaluation.wording import DASH, label, percent, percent_range, points, task_labels
from volar.statistics.intervals import Interval

SHOWN_AXES = 7  # the first of axes.AXES that are known; the page has all


def to_markdown(result: Result) -> str:
    """Every text of the run is escaped."""
    protocol = result.registration.protocol
    registered = [pair for pair in result.pairs if pair.registered]
    lines = [f"### {escape(protocol.question)}", ""]
    for pair in registered:
        lines.append(f"- **{escape(pair.sentence)}** {escape(recipe_sentence(pair))}".rstrip())
    lines += ["", f"Deviations from what was registered (`{result.registration.sha256[:12]}`): "
              + (escape("; ".join(result.deviations)) or "none") + ".", ""]  # fmt: skip
    lines += [f"> **{escape(guard.title)}** {escape(guard.sentence)}\n>" for guard in guard_sentences(result)]
    lines += [f"> Note: {escape(warning)}\n>" for warning in result.warnings]
    lines += ["", *_rates(result), "", *_differences(registered, protocol.tasks), "", *_compute(result)]
    return "\n".join(lines).rstrip() + "\n"


def _rates(result: Result) -> list[str]:
    tasks = result.registration.protocol.tasks
    names = task_labels(tasks)
    head = ["success", *(label(arm.name) for arm in result.arms)]
    rows = [[names[task], *(_rate(arm.tasks[task]) for arm in result.arms)] for task in tasks]
    mean = ["mean of tasks", *(f"{_rate(arm.overall)} {arm.letters}".rstrip() for arm in result.arms)]
    return [row(head), row(["---", *["---:"] * len(result.arms)]), *map(row, rows), row(mean)]


def _differences(pairs: Sequence[PairOutcome], tasks: Sequence[str]) -> list[str]:
    names = task_labels(tasks)
    head = ["difference in points", *(f"{label(pair.other)} minus {label(pair.reference)}" for pair in pairs)]
    rows = [["registered test", *(_gap(pair.interval) for pair in pairs)]]
    rows += [["trained anew", *(_gap(pair.recipes) for pair in pairs)]]
    rows += [[names[task], *(_gap(pair.tasks[task]) for pair in pairs)] for task in tasks]
    return [row(head), row(["---", *["---:"] * len(pairs)]), *map(row, rows)]


def _compute(result: Result) -> list[str]:
    known = [axis for axis in result.axes if any(arm.axes[axis.name] is not None for arm in result.arms)]
    if not known:
        return []
    head = ["compute", *(label(arm.name) for arm in result.arms)]
    rows = [
        [axis.label, *(amount(arm.axes[axis.name], axis.unit) for arm in result.arms)] for axis in known[:SHOWN_AXES]
    ]
    return [row(head), row(["---", *["---:"] * len(result.arms)]), *map(row, rows)]


def _rate(interval: Interval | None) -> str:
    return DASH if interval is None else f"{percent(interval.estimate)} · {percent_range(interval)}"


def _gap(interval: Interval | None) -> str:
    return (
        DASH if interval is None else f"{points(interval.estimate)} ({limit(interval.low)} to {limit(interval.high)})"
    )
