"""`volar language exam`: questions that no lesson had, put to a language model; in form, right object, right side."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from volar.cli.output import Output
from volar.core.errors import ConfigError
from volar.core.fingerprint import fingerprint
from volar.core.progress import counting


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Put held-out questions to a model in this process, and count what is right."""

    model: tyro.conf.Positional[Path | None] = None
    """folder of volar language tune or of transformers; by default SmolLM2 as it is"""
    lessons: int = 40
    """tables per part: new tables, new words, new phrases"""
    shots: int = 0
    """worked questions before each, for a model that was not tuned"""
    free: bool = False
    """do not hold answers to their form"""
    marks: Path | None = None
    """write every mark here, JSON lines"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Exam, prog="volar language exam", args=arguments)
    from volar.reasoning.language.local_model import local
    from volar.train.language.exam import exam_lessons, sit, summary, worked

    if command.lessons < 1 or command.shots < 0:
        raise ConfigError(f"--lessons must be at least 1 and --shots at least 0; got {command}.")
    model = local(folder=None if command.model is None else str(command.model))
    parts = exam_lessons(command.lessons)
    total = sum(len(each.questions) for lessons in parts.values() for each in lessons)
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    with counting("exam", total, shown=sys.stderr.isatty()) as advance:
        for part, lessons in parts.items():
            marks = []
            for studied in lessons:
                for question in studied.questions:
                    shots = worked(type(question.right), command.shots)
                    marks.append(sit(model, studied, question, held=not command.free, shots=shots))
                    rows.append({"part": part, "asked": type(question.right).__name__, **asdict(marks[-1])})
                    advance(1)
            found[part] = summary(marks)
    if command.marks is not None:
        command.marks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    facts = fingerprint(model=model.describe(), shots=command.shots, held=not command.free)
    return Output({"parts": found, **facts}, _text(found))


def _text(found: Mapping[str, Any]) -> str:
    """A line per part; `-` where nothing was asked."""
    keys = ("form", "object", "subtask", "gripper", "side", "calm")
    lines = [f"{'':<14}" + "".join(f"{key:>11}" for key in (*keys, "offset_cm"))]
    for part, counts in found.items():
        shares = [f"{counts[key]['right']}/{counts[key]['of']}" if counts[key]["of"] else "-" for key in keys]
        lines.append(f"{part:<14}" + "".join(f"{each:>11}" for each in (*shares, counts["offset_cm"] or 0)))
    return "\n".join(lines)
