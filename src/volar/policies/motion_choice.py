"""Which motion comes next, asked of a language model: a sub-task and its parameters, or parameters at once; and others
where the last ones did not do. Moves nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from volar.core.errors import ConfigError, EpisodeError
from volar.core.objects import Workspace
from volar.nn.primitives.constrained import Box
from volar.reasoning.language import motion_request, raw_weights
from volar.reasoning.language.compact_prompts import (
    parameters_question,
    scene_text,
    subtask_question,
    whole_question,
)
from volar.reasoning.language.conversation import Conversation, Reading
from volar.reasoning.language.critic import Situation, Tried
from volar.reasoning.language.language_model import Message
from volar.reasoning.language.motion_plan import GripperAct, MotionPlan, plan_raw, plan_request
from volar.reasoning.language.motion_words import raw_words, request_words
from volar.reasoning.language.prompts import (
    SUBTASK_SCHEMA,
    Kind,
    SubTask,
    ask_again,
    ask_parameters,
    ask_subtask,
    read_subtask,
    scene_words,
)

TURN = 1e-3  # radians that are no turn


@dataclass(frozen=True, kw_only=True)
class Motion:
    """done: as the list of what is finished says it. said: what led to it, for a next turn. chosen: None where the
    model was not asked for a sub-task."""

    plan: MotionPlan
    tried: Tried
    done: str
    said: tuple[Message, ...] = ()
    chosen: SubTask | None = None


@dataclass(frozen=True, kw_only=True)
class MotionChooser:
    """raw, decompose, raw_duration: see `LanguagePrimitives.Config`. compact: the model understands `compact_prompts`
    only."""

    talk: Conversation
    workspace: Workspace
    raw: bool
    decompose: bool
    raw_duration: float
    compact: bool = False

    @cached_property
    def box(self) -> Box:
        return Box(low=np.array(self.workspace.low), high=np.array(self.workspace.high))

    def choose(self, task: str, now: Situation, finished: Sequence[str]) -> Motion | None:
        """None when the model says that nothing is left to do. Raises EpisodeError without a usable answer."""
        if not task.strip():
            raise EpisodeError("The instruction is empty.")
        scene = self._scene(now)
        if not self.decompose:
            plain = whole_question(scene, task, finished)
            long = ask_parameters(task, scene, raw=False, whole=True, finished=finished)
            return self._parameters(plain if self.compact else long, now, None)
        asked = subtask_question(scene, task, finished) if self.compact else ask_subtask(task, scene, finished)
        schema = motion_request.with_names(SUBTASK_SCHEMA, "object", [*now.objects, ""])
        chosen = self.talk.ask(asked, schema, lambda text: Reading(value=read_subtask(text, now.objects))).value
        return None if chosen.subtask == "done" else self._parameters(self._question(scene, chosen), now, chosen)

    def _question(self, scene: str, chosen: SubTask) -> list[Message]:
        if self.compact:
            return parameters_question(scene, chosen)
        return ask_parameters(_subtask_words(chosen), scene, raw=self.raw, whole=False, finished=())

    def again(self, motion: Motion, correction: str, now: Situation, *, moved: bool) -> Motion | None:
        """The motion with other parameters, from where the hand is now. moved: whether it was carried out. Raises
        EpisodeError without a usable answer."""
        scene = self._scene(now)
        if self.compact:  # it knows no corrections, but sees where the hand is now
            chosen = motion.chosen
            return None if chosen is None else self._parameters(self._question(scene, chosen), now, chosen)
        asked = ask_again(motion.said, correction, scene, moved=moved)
        return self._parameters(asked, now, motion.chosen)

    def _scene(self, now: Situation) -> str:
        if self.compact:
            return scene_text(now.objects, now.hand, closed=now.closed)
        return scene_words(
            now.objects, now.hand.tolist(), closed=now.closed, workspace=self.workspace, turned=now.turned
        )

    def _parameters(self, asked: Sequence[Message], now: Situation, chosen: SubTask | None) -> Motion | None:
        def read(text: str) -> Reading[Motion | None]:
            if chosen is None and motion_request.first_object(text).get("done") is True:
                return Reading(value=None)
            return self._raw(text, now, chosen) if self.raw and chosen else self._semantic(text, now, chosen)

        named = motion_request.with_names(motion_request.SCHEMA, "goal_object", now.objects)
        schema = None if chosen is None else raw_weights.SCHEMA if self.raw else named
        found = self.talk.ask(asked, schema, read)
        return None if found.value is None else replace(found.value, said=tuple(found.said))

    def _semantic(self, text: str, now: Situation, chosen: SubTask | None) -> Reading[Motion | None]:
        found = motion_request.read_request(text, now.objects)
        if abs(found.request.yaw_rad) > TURN and now.turned is None:
            raise ConfigError(f"This hand cannot turn: yaw_rad must be 0, got {found.request.yaw_rad:g}.")
        plan = plan_request(found.request, now.hand, now.objects, self.box)
        words = request_words(found.request, plan)
        if chosen is None:
            acts = "".join(f", {'close' if act.closes else 'open'} gripper" for act in plan.gripper)
            kind = _kind(plan.gripper, now)
            motion = _motion(plan, kind, plan.goal_object, words, now, done=f"to {plan.goal_object}{acts}")
        else:
            motion = _chosen_motion(plan, chosen, words, now)
        return Reading(value=motion, clamped=found.clamped)

    def _raw(self, text: str, now: Situation, chosen: SubTask) -> Reading[Motion | None]:
        found = raw_weights.read_weights(text)
        if (abs(found.angle) > TURN or any(found.weights[3])) and now.turned is None:
            raise ConfigError("This hand cannot turn: angle and the weights of the yaw row must be 0.")
        closes = chosen.subtask != "release"
        plan = plan_raw(
            found, chosen.object, now.hand, now.objects, self.box, closes=closes, duration=self.raw_duration
        )  # fmt: skip
        return Reading(value=_chosen_motion(plan, chosen, raw_words(found, plan), now))


def _chosen_motion(plan: MotionPlan, chosen: SubTask, words: str, now: Situation) -> Motion:
    done = f"{chosen.subtask} {chosen.object}"
    return replace(_motion(plan, chosen.subtask, chosen.object, words, now, done=done), chosen=chosen)


def _motion(plan: MotionPlan, kind: Kind, name: str, words: str, now: Situation, *, done: str) -> Motion:
    acts = sorted(plan.gripper, key=lambda act: act.s)
    if kind == "reach" and acts and acts[0].closes and now.closed and now.gripped() is None:
        # One reaches with the open hand; it is closed where the last grip has failed.
        plan = replace(plan, gripper=(GripperAct(s=0.0, closes=False), *acts))
    closes = acts[-1].closes if acts else None
    return Motion(
        plan=plan, done=done,
        tried=Tried(kind=kind, object=name, words=words, closes=closes, goal=plan.goal(now.objects)),
    )  # fmt: skip


def _subtask_words(chosen: SubTask) -> str:
    return f"{chosen.subtask} {chosen.object}. {chosen.note}".strip()


def _kind(gripper: Sequence[GripperAct], now: Situation) -> Kind:
    """What a motion is for, where nobody named a sub-task: by how the gripper ends, and by what it holds."""
    if gripper:
        return "reach" if max(gripper, key=lambda act: act.s).closes else "release"
    return "reach" if not now.closed else "push" if now.gripped() is None else "carry"
