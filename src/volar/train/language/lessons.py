"""Questions about one table with the answers that the rules give, in the prompts of `reasoning.compact_prompts`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from volar.envs.tabletop.grammar import VERBS
from volar.reasoning.language.compact_prompts import (
    NOTHING_LEFT,
    parameters_answer,
    parameters_question,
    scene_text,
    subtask_answer,
    subtask_question,
    whole_question,
)
from volar.reasoning.language.language_model import Message
from volar.reasoning.language.motion_request import MotionRequest
from volar.reasoning.language.prompts import SubTask
from volar.reasoning.language.scene_rules import Errand, Relation, next_subtask, parameters
from volar.train.language.scenes import TAUGHT, Nouns, Random, Table, random_table

ON = (
    "(put|place|set) the {thing} (on|onto) the {place}",
    "(pick up|take|grasp) the {thing} and (put|set) it (on|onto) the {place}",
    "bring the {thing} to the {place}",
    "the {thing} (belongs|goes) on the {place}",
)
PHRASES: dict[Relation, tuple[str, ...]] = {
    "in": VERBS["in"].templates, "on": ON, "left of": VERBS["left"].templates, "right of": VERBS["right"].templates
}  # fmt: skip
KEPT_BACK = re.compile(r"belongs\|goes")  # phrases that only the exam has
MOST = 6  # errands in one instruction
WHOLE = 0.4  # of the errands, also asked for without a sub-task first
ASTRAY = 0.15  # of the errands whose thing was carried to the place of another, which are asked for all the same
_CHOICE = re.compile(r"\(([^()]*)\)")


@dataclass(frozen=True, kw_only=True)
class Question:
    """said: the instruction, or the sub-task in words. right: what the answer must mean. whole: asked for the motion
    without a sub-task first."""

    said: str
    asked: tuple[Message, ...]
    answer: str
    right: SubTask | MotionRequest
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Lesson:
    table: Table
    questions: tuple[Question, ...]


def lesson(seed: int, nouns: Nouns = TAUGHT, *, kept_back: bool = False) -> Lesson:
    """About one random table, a function of the seed. kept_back: in the phrases that no other lesson has."""
    random = np.random.default_rng(seed)
    table = random_table(random, nouns)
    scene = scene_text(table.objects, table.hand, closed=table.closed)
    found: dict[str, Question] = {}
    for errand in table.errands:
        if table.closed and errand.thing != table.errands[0].thing:
            continue  # another thing is in the hand
        if table.last.startswith("carry") and errand != table.errands[0] and random.random() > ASTRAY:
            continue  # a policy hardly ever has carried it there
        chain = _chain(random, errand, table)
        here = {"objects": table.objects, "hand": table.hand, "closed": table.closed}
        chosen = next_subtask(chain.errands[len(chain.released) :], **here)
        task = _said(random, chain.errands, table, kept_back=kept_back)
        for each in _questions(scene, task, chosen, table, chain.finished(table), whole=random.random() < WHOLE):
            brief = chosen.subtask == "reach" and not each.whole  # many errands begin with the same one
            found.setdefault(each.answer if brief else each.asked[-1].text, each)
    return Lesson(table=table, questions=tuple(found.values()))


def _questions(
    scene: str, task: str, chosen: SubTask, table: Table, finished: Sequence[str], *, whole: bool
) -> Iterator[Question]:
    """For the sub-task, for its motion, and, if whole, for the motion at once."""
    asked = subtask_question(scene, task, finished)
    yield Question(said=task, asked=tuple(asked), answer=subtask_answer(chosen), right=chosen)
    right, answer = chosen, NOTHING_LEFT
    if chosen.subtask != "done":
        right = parameters(chosen, table.objects, table.hand, closed=table.closed)
        answer, words = parameters_answer(right), f"{chosen.subtask} {chosen.object}. {chosen.note}".strip()
        yield Question(said=words, asked=tuple(parameters_question(scene, chosen)), answer=answer, right=right)
    if whole:
        asked = whole_question(scene, task, [_moved(each) for each in finished])
        yield Question(said=task, asked=tuple(asked), answer=answer, right=right, whole=True)


def _moved(finished: str) -> str:
    """A sub-task as a policy that names none remembers its motion."""
    kind, _, name = finished.partition(" ")
    return f"to {name}" + {"reach": ", close gripper", "release": ", open gripper"}.get(kind, "")


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Errands of one instruction, in their order; released: the first of them, which are done or were."""

    errands: tuple[Errand, ...]
    released: tuple[Errand, ...]

    def finished(self, table: Table) -> list[str]:
        """Sub-tasks, as a policy remembers them; of those before the last, only what was let go."""
        found = [f"release {errand.thing}" for errand in self.released]
        return found if not table.last or found[-1:] == [table.last] else [*found, table.last]


def _chain(random: Random, errand: Errand, table: Table) -> Chain:
    """Now and then after some that are done, whether or not things still lie there, and before others."""
    just = table.errands[:1] if table.last.startswith("release") else ()
    released: list[Errand] = []
    while random.random() < 0.3:
        pool = [each for each in (*table.delivered, *table.errands) if each not in (*released[-1:], *just, errand)]
        if pool:
            released.append(pool[random.integers(len(pool))])
    released.extend(just)
    later = [] if (errand,) == just else [errand]
    while random.random() < 0.45:
        later.append(table.errands[random.integers(len(table.errands))])
    return Chain(errands=tuple((*released, *later)[:MOST]), released=tuple(released[:MOST]))


def _said(random: Random, errands: Sequence[Errand], table: Table, *, kept_back: bool) -> str:
    parts = []
    for errand in errands:
        phrases = [each for each in PHRASES[errand.relation] if bool(KEPT_BACK.search(each)) == kept_back]
        words = _CHOICE.sub(lambda found: str(random.choice(found[1].split("|"))), str(random.choice(phrases)))
        names = {"thing": errand.thing, "place": errand.place}
        parts.append(words.format(**{slot: _called(random, name, table) for slot, name in names.items()}))
    said = ", then ".join(parts)
    if table.obstacles and random.random() < 0.5:
        said += f" without touching the {table.obstacles[0]}"
    return said


def _called(random: Random, name: str, table: Table) -> str:
    """By its name, or by its noun alone where no other thing has it."""
    noun = name.rpartition(" ")[2]
    alone = sum(each.endswith(f" {noun}") for each in table.objects) == 1
    return noun if alone and random.random() < 0.5 else name
