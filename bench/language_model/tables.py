"""Tables out of the records beside this file: loss and exam. Markdown to stdout.

python bench/language_model/tables.py
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from volar.statistics.intervals import wilson

FOLDER = Path(__file__).parent
EXAMS = {  # file -> how it is called
    "exam_untuned_free": "SmolLM2, long prompts, free", "exam_untuned": "SmolLM2, long prompts, held to the form",
    "exam_shots": "SmolLM2, 3 worked examples, held", "exam_tuned_free": "tuned, free", "exam_tuned": "tuned, held",
}  # fmt: skip
KEYS = {
    "form": "in form", "object": "object", "subtask": "sub-task", "gripper": "gripper", "side": "side of an obstacle",
    "calm": "sees none where none is",
}  # fmt: skip
Row = dict[str, Any]


def read(name: str) -> list[Row]:
    path = FOLDER / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    print("\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n")


def share(values: Sequence[bool]) -> str:
    if not values:
        return "-"
    interval = wilson(sum(values), len(values))
    return f"{sum(values)}/{len(values)} ({100 * interval.low:.0f} to {100 * interval.high:.0f} %)"


def loss() -> None:
    rows = read("loss")
    marks = [each for each in (1, 10, 20, 50, 100, 200, rows[-1]["step"]) if each <= rows[-1]["step"]]
    last = [np.mean([row["loss"] for row in rows if step - 10 < row["step"] <= step]) for step in marks]
    show(["step", *map(str, marks)], [["nats per token, mean of the last 10", *(f"{each:.3f}" for each in last)]])


def exams(part: str | None) -> None:
    table = []
    for name, called in EXAMS.items():
        rows = [row for row in read(name) if part in (None, row["part"])]
        if rows:
            counts = [share([row[key] for row in rows if row[key] is not None]) for key in KEYS]
            offsets = [row["offset_cm"] for row in rows if row["offset_cm"] is not None]
            far = f"{np.mean(offsets):.1f}" if offsets else "-"
            table.append([called, *counts, far, f"{np.mean([row['seconds'] for row in rows]):.1f}"])
    print(f"### {part or 'all parts'}\n")
    show(["model", *KEYS.values(), "offset, mean error, cm", "s per answer"], table)


if __name__ == "__main__":
    loss()
    for part in (None, "new tables", "new words", "new phrases"):
        exams(part)
