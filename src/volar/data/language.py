"""Thoughts as LeRobot keeps language beside the frames: rows that last, and rows that belong to one frame.

Source: lerobot 0.6.1, `datasets/language.py`. Styles that lerobot knows are used where one of them says the same; the
others begin with "volar/", and lerobot passes them by. No files here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from jaxtyping import Float

from volar.core.errors import ConfigError
from volar.core.thoughts import Mark, Thought
from volar.data import layout

LASTING: Final = {"task": "task_aug", "plan": "plan", "subtask": "subtask", "memory": "memory", "move": "motion"}
OURS: Final = "volar/"  # styles of our own, in the column of events: written where they change, and valid until then
MARKS: Final = "volar/marks"
PLACED: Final = ("centre", "size")
Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LanguageRows:
    """lasting: with a timestamp, seconds since the episode began, each valid until the next of its style; lerobot
    repeats them all at every frame. events: of every frame."""

    lasting: tuple[Row, ...]
    events: tuple[tuple[Row, ...], ...]


def language_rows(thoughts: Sequence[Thought], fps: float) -> LanguageRows:
    """The rows of one episode. Ages and tokens, which labels do not have, are not kept."""
    lasting: list[Row] = []
    events: list[list[Row]] = [[] for _ in thoughts]
    before: dict[tuple[str, str | None], str | None] = {}
    for frame, thought in enumerate(thoughts):
        now = _contents(thought)
        for key in [*now, *(key for key in before if key not in now)]:
            content, (style, camera) = now.get(key), key
            if before.get(key) == content:
                continue
            before[key] = content
            row: Row = {"role": "user" if style == LASTING["task"] else "assistant", "content": content, "style": style,
                        "camera": camera, "tool_calls": None}  # fmt: skip
            if style.startswith(OURS):
                events[frame].append(row)
            else:
                lasting.append({**row, "timestamp": frame / fps})
    return LanguageRows(lasting=tuple(lasting), events=tuple(map(tuple, events)))


def _contents(thought: Thought) -> dict[tuple[str, str | None], str | None]:
    """(style, camera feature) -> content."""
    found: dict[tuple[str, str | None], str | None] = {
        (LASTING.get(segment, OURS + segment), None): text for segment, text in thought.words.items()
    }
    for camera in dict.fromkeys(mark.camera for mark in thought.marks):
        marks = [_plain(mark) for mark in thought.marks if mark.camera == camera]
        found[MARKS, layout.image_key(camera)] = json.dumps(marks, separators=(",", ":"))
    return found


def _plain(mark: Mark) -> dict[str, Any]:
    """Without its camera, which the row names, and to a hundredth of a thousandth of the picture."""
    plain = {key: value for key, value in asdict(mark).items() if key != "camera"}
    return plain | {key: [round(number, 5) for number in plain[key]] for key in PLACED}


def language_thoughts(rows: LanguageRows, times: Float[np.ndarray, " t"], *, where: str) -> tuple[Thought, ...]:
    """The thought of every frame of an episode, at `times` in seconds. where: for messages.

    Questions, answers and speech of other annotators, which are no thoughts, are left out. Raises ConfigError for marks
    that are damaged.
    """
    segments = {style: segment for segment, style in LASTING.items()}
    changes: list[list[tuple[str, str | None]]] = [[] for _ in times]
    begun = np.asarray(times, dtype=np.float64)
    slack = 0.5 * float(np.diff(begun).min()) if len(begun) > 1 else 0.0  # timestamps are float32
    for row in sorted(rows.lasting, key=lambda row: row["timestamp"]):
        frame = int(np.searchsorted(begun + slack, row["timestamp"]))
        if row["style"] in segments and frame < len(changes):
            changes[frame].append((segments[row["style"]], row["content"]))
    words: dict[str, str] = {}
    marks: dict[str, tuple[Mark, ...]] = {}
    thought, thoughts = Thought(), []
    for lasting, events in zip(changes, rows.events, strict=True):
        ours = [row for row in events if (row["style"] or "").startswith(OURS)]
        for row in ours:
            if row["style"] == MARKS:
                marks[row["camera"]] = _marks(row, where)
            else:
                lasting.append((row["style"].removeprefix(OURS), row["content"]))
        if lasting:
            words = _changed(words, lasting)
        if lasting or ours:
            thought = Thought(words=words, marks=tuple(mark for found in marks.values() for mark in found))
        thoughts.append(thought)
    return tuple(thoughts)


def _changed(words: Mapping[str, str], changes: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    merged = {**words, **dict(changes)}
    return {segment: text for segment, text in merged.items() if text is not None}


def _marks(row: Row, where: str) -> tuple[Mark, ...]:
    if row["content"] is None:
        return ()
    camera = layout.camera_name(row["camera"] or "")
    try:
        return tuple(
            Mark(camera=camera, **{**mark, **{key: tuple(map(float, mark[key])) for key in PLACED}})
            for mark in json.loads(row["content"])
        )
    except (ValueError, KeyError, TypeError) as error:  # a ConfigError of the mark is one of them
        raise ConfigError(f"{where}: the marks of camera {camera!r} are damaged: {error}.") from error
