"""What is wrong with the words: empty, untidy, placeholders, the same sentence spelt twice, tasks nobody does."""

import re
import unicodedata
from collections.abc import Iterator
from itertools import combinations
from typing import Final

from volar.data.findings import Finding, error, note, warning
from volar.data.inspection.subject import Subject

PLACEHOLDERS: Final = frozenset((
    "none", "null", "nan", "n/a", "dummy", "test", "todo", "tbd", "task", "default", "unknown", "default task",
    "dummy task", "test task", "no instruction", "instruction", "unnamed", "debug",
))  # fmt: skip
DAMAGED: Final = "\ufffd\ufeff\u200b"  # what wrong encodings leave behind
SHORT_WORD: Final = 5  # letters; shorter words that differ by one letter are usually different words (left, lift)
RARE: Final = 1 / 3  # how much rarer a misspelling is than what was meant
COMPARED: Final = 1000  # sentences that are compared for typing errors; pairs grow with the square


def _episodes_by_task(subject: Subject) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {task: [] for task in subject.dataset.tasks}
    for episode in subject.dataset.episodes:
        for task in episode.tasks:
            found.setdefault(task, []).append(episode.index)
    return found


def bad_instructions(subject: Subject) -> Iterator[Finding]:
    """Each sentence by itself."""
    for task, episodes in _episodes_by_task(subject).items():
        if not episodes:
            continue
        place = {"episode": episodes[0]}
        seen = f"{task!r} ({len(episodes)} episode{'s' * (len(episodes) > 1)})"
        bare = task.strip()
        if not bare:
            yield error("empty-instruction", seen, "Say what is done in these episodes.", **place)
        elif bare.casefold().strip(".!") in PLACEHOLDERS:
            yield warning("placeholder-instruction", seen, "Say what is done in these episodes.", **place)
        elif any(letter in DAMAGED or unicodedata.category(letter) in ("Cc", "Co", "Cs") for letter in task):
            yield warning("control-characters", seen, "Write it again; a wrong text encoding did this.", **place)
        elif task != " ".join(task.split()):
            yield warning("untidy-spaces", seen, "Remove spaces at the ends and double ones.", **place)
        elif re.fullmatch(r"\S*[a-z0-9][-_][a-z0-9]\S*", task, re.IGNORECASE):
            yield note("identifier-instruction", seen, "A name of a task; language models read sentences.", **place)
        elif len(task.split()) == 1:
            yield note("one-word-instruction", seen, "Write a sentence: what to do with what.", **place)


def unused_tasks(subject: Subject) -> Iterator[Finding]:
    unused = [task for task, episodes in _episodes_by_task(subject).items() if not episodes]
    if unused:
        yield note(
            "unused-task",
            f"{len(unused)} of {len(subject.dataset.tasks)} tasks have no episode, such as {unused[0]!r}",
            "Harmless; write the data set anew to be rid of them.",
        )  # fmt: skip


def instruction_variants(subject: Subject) -> Iterator[Finding]:
    """Sentences that differ only in case, spaces or punctuation, or by one letter of a long word."""
    by_task = {task: episodes for task, episodes in _episodes_by_task(subject).items() if episodes}
    plain: dict[str, list[str]] = {}
    for task in by_task:
        plain.setdefault(" ".join(re.sub(r"[^\w\s]", " ", task.casefold()).split()), []).append(task)
    for same in plain.values():
        if len(same) > 1:
            rarest = min(same, key=lambda task: len(by_task[task]))
            yield warning(
                "instruction-variants",
                f"one sentence is written in {len(same)} ways: {', '.join(map(repr, same[:4]))}",
                "Write it in one way.", episode=by_task[rarest][0],
            )  # fmt: skip
    counts = {words: sum(len(by_task[task]) for task in same) for words, same in plain.items() if words}
    for one, other in combinations(sorted(counts, key=lambda words: -counts[words])[:COMPARED], 2):
        if counts[other] <= RARE * counts[one] and _misspelt(one.split(), other.split()):
            yield note(
                "instruction-typo", f"{plain[other][0]!r} ({counts[other]} episodes) may mean {plain[one][0]!r} "
                f"({counts[one]} episodes)", "Correct it if so.", episode=by_task[plain[other][0]][0],
            )  # fmt: skip


def _misspelt(meant: list[str], written: list[str]) -> bool:
    different = [(a, b) for a, b in zip(meant, written, strict=False) if a != b]
    if len(meant) != len(written) or len(different) != 1:
        return False
    a, b = different[0]
    return min(len(a), len(b)) >= SHORT_WORD and not re.search(r"\d", a + b) and _one_slip(a, b)


def _one_slip(a: str, b: str) -> bool:
    """One letter more, less or other, or two neighbours exchanged."""
    same = 0
    while same < min(len(a), len(b)) and a[same] == b[same]:
        same += 1
    rest_a, rest_b = a[same:], b[same:]
    return (
        rest_a[1:] == rest_b[1:]
        or rest_a[1:] == rest_b
        or rest_a == rest_b[1:]
        or (rest_a[:2] == rest_b[:2][::-1] and rest_a[2:] == rest_b[2:])
    )
