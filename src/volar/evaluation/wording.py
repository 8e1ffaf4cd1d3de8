"""Numbers as a reader meets them: percentages, intervals, durations, names. No-break spaces hold unit and number."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from volar.statistics.intervals import Interval

SPACE, MINUS, DASH = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}", "\N{EN DASH}"


def percent(rate: float) -> str:
    """Whole per cent; a rate that only rounds to 0 or 100 says so. 0.85 -> '85 %', 0.998 -> '>99 %'."""
    whole = _whole(rate)
    number = "<1" if whole == 0 and rate > 0 else ">99" if whole == 100 and rate < 1 else str(whole)
    return f"{number}{SPACE}%"


def percent_range(interval: Interval, *, dash: str = DASH) -> str:
    """'64–95 %'"""
    return f"{_whole(interval.low)}{dash}{_whole(interval.high)}{SPACE}%"


def points(difference: float) -> str:
    """Percentage points with a sign: '+79', '−3', '0'."""
    whole = _whole(difference)
    return f"+{whole}" if whole > 0 else f"{MINUS}{-whole}" if whole < 0 else "0"


def _whole(share: float) -> int:
    return math.floor(100 * share + 0.5)


def points_range(interval: Interval) -> str:
    """'+70 to +86'"""
    return f"{points(interval.low)} to {points(interval.high)}"


def duration(seconds: int | float) -> str:
    """'12 ms', '4.1 s', '9 min 12 s', '2 h 03 min'"""
    if 0 < seconds < 0.00005:
        return f"<0.1{SPACE}ms"
    if seconds < 0.9995:
        digits = 1 if 0 < seconds < 0.00995 else 0
        return f"{1000 * seconds:.{digits}f}{SPACE}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}{SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{SPACE}min{SPACE}{whole % 60:02d}{SPACE}s"
    return f"{whole // 3600}{SPACE}h{SPACE}{whole % 3600 // 60:02d}{SPACE}min"


def number(value: int | float) -> str:
    """Thousands apart; at most three significant digits behind the point."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def label(name: str) -> str:
    """An identifier as words: 'shuffled_instruction' -> 'shuffled instruction'."""
    return name.replace("_", " ")


def sentence(text: str) -> str:
    """A phrase with a capital letter and a full stop, whatever it came with."""
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) or not text else ".")


def task_labels(tasks: Sequence[str]) -> dict[str, str]:
    """task -> its name without the environment, where all tasks share one."""
    environments = {task.partition("/")[0] for task in tasks}
    return {task: task.partition("/")[2] or task if len(environments) == 1 else task for task in tasks}


def listed(names: Iterable[str]) -> str:
    """'a', 'a and b', 'a, b and c'"""
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last


def fact_rows(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A JSON object as (words, value) rows. Units are read from the ends of the keys: *_seconds, *_bytes."""
    rows: list[tuple[str, str]] = []
    for key, value in facts.items():
        words = f"{prefix}{label(str(key))}"
        if isinstance(value, Mapping):
            rows += fact_rows(value, f"{words} \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            rows.append(_fact(words, value))
        else:
            rows.append((words, _plain(value)))
    return rows


def _fact(words: str, value: int | float) -> tuple[str, str]:
    if words.endswith("seconds"):
        return f"{words.removesuffix('seconds')}time", duration(value)
    if words.endswith(" bytes"):
        return words.removesuffix(" bytes"), f"{value / 2**20:,.1f}{SPACE}MiB"
    return words, number(value)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        whole = all(isinstance(member, int) and not isinstance(member, bool) for member in value)
        if whole and len(value) > 2 and list(value) == list(range(value[0], value[0] + len(value))):
            return f"{value[0]}{DASH}{value[-1]} ({len(value)})"
        return ", ".join(_plain(member) for member in value) or "none"
    if value is None:
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
