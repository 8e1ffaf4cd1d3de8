"""What a check says of a data set: how bad, where, what was seen in numbers, and what to do about it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """error: reading or training goes wrong. warning: likely harmful, look at it. note: worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """Larger is worse."""
        return {"note": 0, "warning": 1, "error": 2}[self.value]


@dataclass(frozen=True, kw_only=True)
class Place:
    """As narrow as it is known. feature: a column or a camera's key. Frames start (inclusive) to stop (exclusive)
    count within the episode."""

    feature: str | None = None
    episode: int | None = None
    start: int | None = None
    stop: int | None = None

    def __str__(self) -> str:
        words = [] if self.episode is None else [f"episode {self.episode}"]
        if self.start is not None and self.stop is not None:
            words.append(f"frames {self.start}-{self.stop - 1}")
        return ", ".join(words + ([] if self.feature is None else [self.feature])) or "data set"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """code: a name that scripts may rely on, described in docs/data.md. seen: with the numbers. remedy: what to do."""

    severity: Severity
    code: str
    place: Place
    seen: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def error(code: str, seen: str, remedy: str, **place: Any) -> Finding:
    return Finding(severity=Severity.ERROR, code=code, place=Place(**place), seen=seen, remedy=remedy)


def warning(code: str, seen: str, remedy: str, **place: Any) -> Finding:
    return Finding(severity=Severity.WARNING, code=code, place=Place(**place), seen=seen, remedy=remedy)


def note(code: str, seen: str, remedy: str, **place: Any) -> Finding:
    return Finding(severity=Severity.NOTE, code=code, place=Place(**place), seen=seen, remedy=remedy)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By severity, then code, then episode."""
    return tuple(
        sorted(
            findings,
            key=lambda found: (
                -found.severity.rank, found.code, found.place.feature or "",
                -1 if found.place.episode is None else found.place.episode,
            ),
        )
    )  # fmt: skip
