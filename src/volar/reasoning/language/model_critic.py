"""The policy's own language model as its critic: it is told the scene before and after a motion, in words.

Uses nothing that the policy does not see, and judges no motion before it begins.
"""

from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from volar.core.errors import ConfigError
from volar.core.objects import NamedObject
from volar.reasoning.language.conversation import Conversation, Reading
from volar.reasoning.language.critic import Judge, Situation, Tried, Verdict
from volar.reasoning.language.language_model import Message
from volar.reasoning.language.motion_request import STRICT, first_object, validated

ASKED = """\
You watch a robot arm with a two-finger gripper. Lengths in metres; x points right, y away from you, z up. You are told
one motion and the scene before and after it. Did it do what it was meant to do? Answer with one JSON object:
{"success": true or false, "again": true or false, "problem": "...", "correction": "..."}
problem says what went wrong and correction what to do otherwise, as a direction with a distance in centimetres or as
when the gripper should act; both are empty after a success. again: whether the same motion with other parameters can
mend it; if not, another motion must come first."""
Short = Annotated[str, Field(max_length=400)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Judgement:
    """What the model answers."""

    success: bool
    again: bool = True
    problem: Short = ""
    correction: Short = ""


SCHEMA: dict[str, Any] = TypeAdapter(Judgement).json_schema()


class ModelJudge(Judge):
    """Final."""

    def begin(self, tried: Tried, now: Situation) -> None:
        self._tried, self._before = tried, now

    def watch(self, now: Situation, share: float) -> None:
        self._after = now

    def judge(self, talk: Conversation) -> Verdict:
        tried = self._tried
        text = (
            f"Motion: {tried.kind} {tried.object}: {tried.words}\nBefore:\n{_scene(self._before)}\n"
            f"After:\n{_scene(self._after)}"
        )
        asked = [Message(role="system", text=ASKED), Message(role="user", text=text)]
        return talk.ask(asked, SCHEMA, lambda answer: Reading(value=read_judgement(answer))).value


def read_judgement(text: str) -> Verdict:
    """Raises ConfigError that says what is wrong, fit to be sent back to the model."""
    found = validated(Judgement, first_object(text), "The judgement is")
    if not found.success and found.again and not found.correction:
        raise ConfigError("A motion that should be made again needs a correction: what to do otherwise.")
    return Verdict(success=found.success, again=found.again, problem=found.problem, advice=found.correction)


def _scene(now: Situation) -> str:
    lines = [f"- {name}: {_metres(thing)}" for name, thing in now.objects.items()]
    x, y, z = now.hand
    return "\n".join([*lines, f"- hand: ({x:.3f}, {y:.3f}, {z:.3f}), gripper {'closed' if now.closed else 'open'}"])


def _metres(thing: NamedObject) -> str:
    x, y, z = thing.position
    return f"({x:.3f}, {y:.3f}, {z:.3f})"
