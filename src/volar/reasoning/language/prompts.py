"""What a language model is told of a scene, of the sub-task to choose, and of the parameters to set.

After the prompts that Language Movement Primitives published (arXiv 2602.02839), in words of our own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from volar.core.errors import unknown_name
from volar.core.objects import NamedObject, Workspace
from volar.reasoning.language.language_model import Message
from volar.reasoning.language.motion_request import STRICT, first_object, validated

Kind = Literal["reach", "carry", "push", "wipe", "release", "done"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SubTask:
    """object: where the hand, or what it holds, goes to; for release what is let go; any for done. note: obstacles and
    the side on which to pass them, in words."""

    subtask: Kind
    object: str
    note: str = ""


SUBTASK_SCHEMA: dict[str, Any] = TypeAdapter(SubTask).json_schema()

DECOMPOSE = """You decide what a robot arm with a two-finger gripper does next. Answer with one JSON object:
{"subtask": ..., "object": ..., "note": ...}
subtask is one of: reach (move the open hand to an object and grip it), carry (bring what is gripped to an object),
push (move the closed hand against an object), wipe, release (let go), done (nothing is left to do).
object is one of the names below, exactly as written. note says which obstacle stands in the way and on which side to
pass it, or is empty. Choose ONE next sub-task only."""

SEMANTIC = """\
You set the parameters of one motion of a robot arm. Lengths in metres, angles in radians. Answer with one JSON object:
{"goal_object": name, "goal_offset_m": [x, y, z], "yaw_rad": 0, "speed_m_s": 0.15,
 "vias": [{"at_fraction": 0.5, "axis": "y", "clearance_m": 0.08}],
 "gripper": [{"event": "close", "at_fraction": 1.0}]}
goal_offset_m is added to the centre of the goal object; to drop something into a thing, end above it. yaw_rad turns the
hand about the vertical from how it faces now. vias lead around obstacles: at that fraction of the straight way the hand
is at least clearance_m off it, the sign is the side; leave vias empty when nothing is in the way. gripper events at 1.0
happen after arrival. Use names exactly as written."""

WEIGHTS = """\
You set the weights of five dynamic movement primitives (rows x, y, z, yaw, gripper; 11 weights each) that bend
a motion to a goal. Answer with one JSON object: {"weights": [[11 numbers] x 5], "angle": 0, "height": 0}
Weights lie in [-0.9, 0.9]. Indices 0-3 act early, 4-6 in the middle, 7-10 late. Zeros by default: a non-zero weight
only for an obstacle, an order of motions or a correction. Prefer early indices. angle: by which the hand turns about
the vertical from how it faces now. height: metres above the object at the end, 0 unless something is let go. The
gripper row decides when the gripper acts; zeros act at once, -0.9 delays, so make it act at the very end by negative
early weights."""

WHOLE = """
You get the whole task. Set the parameters of the NEXT motion only; answer {"done": true} when nothing is left to do."""


def scene_words(
    objects: Mapping[str, NamedObject], hand: Sequence[float], *, closed: bool, workspace: Workspace,
    turned: float | None = None,
) -> str:  # fmt: skip
    """Positions and sizes in metres, to millimetres, one thing per line. turned: radians that the hand has turned about
    the vertical so far; None for one that cannot."""
    facing = "" if turned is None else f", turned by {turned:+.2f} rad about the vertical so far"
    lines = [
        f"- {name}: centre ({_mm(thing.position)}) m, size ({_mm(thing.size)}) m" for name, thing in objects.items()
    ]
    return "\n".join(
        [
            "Objects:", *lines,
            f"Hand: ({_mm(hand)}) m, gripper {'closed' if closed else 'open'}{facing}.",
            f"Workspace: ({_mm(workspace.low)}) to ({_mm(workspace.high)}) m; {workspace.directions}.",
        ]
    )  # fmt: skip


def _mm(numbers: Any) -> str:
    return ", ".join(f"{float(number):.3f}" for number in numbers)


def ask_subtask(task: str, scene: str, finished: Sequence[str]) -> list[Message]:
    done = "\n".join(f"- {each}" for each in finished) or "- nothing yet"
    return [
        Message(role="system", text=DECOMPOSE),
        Message(role="user", text=f"Task: {task}\n{scene}\nFinished so far:\n{done}"),
    ]


def ask_parameters(task: str, scene: str, *, raw: bool, whole: bool, finished: Sequence[str]) -> list[Message]:
    rules = (WEIGHTS if raw else SEMANTIC) + (WHOLE if whole else "")
    done = "".join(f"\n- {each}" for each in finished)
    text = f"{'Task' if whole else 'Sub-task'}: {task}\n{scene}" + (f"\nMotions so far:{done}" if done else "")
    return [Message(role="system", text=rules), Message(role="user", text=text)]


def ask_again(said: Sequence[Message], correction: str, scene: str, *, moved: bool) -> list[Message]:
    """A next turn, where the parameters of an answer did not do. correction: of a critic. moved: whether they were
    carried out."""
    happened = "was carried out and did not do what it should" if moved else "was not carried out: it would not do"
    text = (
        f"The motion {happened}. {correction}\n{scene}\n"
        f"Answer with all parameters again; change only what the correction asks for."
    )
    return [*said, Message(role="user", text=text)]


def read_subtask(text: str, objects: Mapping[str, NamedObject]) -> SubTask:
    """Raises ConfigError that says what is wrong, fit to be sent back to the model."""
    found = validated(SubTask, first_object(text), "The sub-task is")
    if found.subtask != "done" and found.object not in objects:
        raise unknown_name("object", found.object, objects)
    return found
