"""Language Movement Primitives (arXiv 2602.02839): a policy without training. Perceive, let a language model choose a
motion, follow it while its goal is tracked, settle, judge and correct it, go on."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Float64

from volar.core.errors import ConfigError, EpisodeError
from volar.core.objects import NamedObject, Workspace
from volar.core.robot import Chunk, Env, Observation, PrivilegedActor, RobotSpec
from volar.core.thoughts import Thought
from volar.policies.led_hand import LedHand
from volar.policies.motion_choice import Motion, MotionChooser
from volar.policies.perception import Perception
from volar.reasoning.language.conversation import Conversation, Exchange
from volar.reasoning.language.critic import CORRECTION, PASSED, Judge, Situation, Verdict
from volar.reasoning.language.following import Follower, Patience
from volar.reasoning.language.language_model import LanguageModel
from volar.reasoning.language.motion_plan import foresee


class LanguagePrimitives(PrivilegedActor):
    """Final. When the model gives no answer that can be used, the hand holds still until time is up: the episode is the
    policy's failure, and the run goes on.

    judge: who says whether a motion did what it should; without one all did. journal: is told every exchange with the
    model. confirm: a person who is shown every motion in words; "" lets it begin, None ends all motion, and other
    text is a correction.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """raw: published weights instead of metres. decompose: ask for one sub-task at a time first. attempts: answers
        that may be unusable, in a row. corrections: by the judge, in one episode. most_motions: in one episode.
        execute: control steps between looks. raw_duration: seconds of a motion by weights, which do not say how long.
        patience: at the end of a motion."""

        raw: bool = False
        decompose: bool = True
        attempts: int = 3
        corrections: int = 0
        most_motions: int = 40
        execute: int = 2
        raw_duration: float = 4.0
        patience: Patience = field(default_factory=Patience)

        def __post_init__(self) -> None:
            if self.attempts < 1 or self.execute < 1 or self.most_motions < 1 or self.corrections < 0:
                raise ConfigError(
                    f"attempts, execute and most_motions must be at least 1, corrections at least 0; got {self}."
                )
            if self.raw and not self.decompose:
                raise ConfigError("Raw weights name no goal object, so they need decompose=True, which does.")

    def __init__(
        self, config: Config, model: LanguageModel, perception: Perception, *, spec: RobotSpec, workspace: Workspace,
        judge: Judge | None = None, journal: Callable[[Exchange], None] | None = None,
        confirm: Callable[[str], str | None] | None = None, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if config.corrections and judge is None:
            raise ConfigError(f"{config.corrections} corrections need a judge who gives them.")
        if model.compact and config.raw:
            raise ConfigError("A tuned model knows metres only: it needs raw=False.")
        self.config, self._perception, self._judge = config, perception, judge
        self._confirm, self._clock = confirm, clock
        self.privileged = (*perception.privileged, *(judge.privileged if judge else ()))
        self.uses_images = perception.uses_images
        if self.uses_images and not spec.cameras:
            raise ConfigError("Who perceives by pictures needs a camera, and this robot has none.")
        self._hand = LedHand(spec)
        self._talk = Conversation(model, attempts=config.attempts, journal=journal)
        self._chooser = MotionChooser(
            talk=self._talk, workspace=workspace, raw=config.raw, decompose=config.decompose,
            raw_duration=config.raw_duration, compact=model.compact,
        )  # fmt: skip
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._seed = seed
        self._hand.reset()
        self._motion: Motion | None = None
        self._follower: Follower | None = None
        self._closed, self._stopped, self._corrections, self._motions = False, False, 0, 0
        self._instruction: str | None = None
        self._finished: list[str] = []  # of this instruction
        self._known: dict[str, NamedObject] = {}  # what was perceived last, also of what is gone by now
        self._carried: Mapping[str, NamedObject] | None = None  # where things were, while a goal is in the hand
        self._words: dict[str, str] = {}
        self._ages: dict[str, int] = {}
        self._talk.begin(seed)

    def bind(self, env: Env) -> None:
        self._perception.bind(env)
        if self._judge is not None:
            self._judge.bind(env, self._seed)
        self._talk.begin(self._seed, env.digest())

    def act(self, observation: Observation) -> Chunk:
        began = self._clock()
        self._talk.look(observation.instruction)
        if observation.instruction != self._instruction:
            self._instruction, self._finished, self._stopped = observation.instruction, [], False
        self._ages = {segment: age + 1 for segment, age in self._ages.items()}
        hand = self._hand.look(observation)
        try:
            objects = self._perception.objects(observation)
            self._known |= objects
            turned = self._hand.turned if self._hand.turns else None
            now = Situation(hand=hand, closed=self._closed, objects=objects, turned=turned)
            self._go_on(observation.instruction, now)
        except EpisodeError as error:
            self._stop(str(error))
        actions = self._actions(hand, self._known)
        return Chunk(
            actions=actions, execute=self.config.execute, evaluations=self._talk.calls,
            latency=self._clock() - began,
            thought=Thought(words=dict(self._words), ages=dict(self._ages), tokens=self._talk.written),
        )  # fmt: skip

    def _go_on(self, task: str, now: Situation) -> None:
        """Watch the motion under way, judge it at its end, begin the next one. Raises EpisodeError when there is none
        because nobody gave a usable answer."""
        if self._stopped:
            return
        if not now.objects:
            self._say("trouble", "Nothing that has a name is in sight.")
            return
        chosen = None
        if self._follower is not None and self._motion is not None:
            if self._judge is not None:
                self._judge.watch(now, self._follower.share)
            if not self._follower.finished:
                return
            self._follower = None
            chosen = self._judged(self._motion, now)
        if chosen is None and self._motions < self.config.most_motions:
            chosen = self._chooser.choose(task, now, self._finished)
        if chosen is not None:
            chosen = self._confirmed(self._previewed(chosen, now), now)
        if chosen is None:
            self._stop("")
        else:
            self._begin(chosen, now)

    def _judged(self, motion: Motion, now: Situation) -> Motion | None:
        """The same motion with other parameters, where it failed and may be corrected; else it is left behind."""
        try:
            verdict = PASSED if self._judge is None else self._judge.judge(self._talk)
        except EpisodeError:  # nobody can say
            verdict = PASSED
        changed = self._corrected_by(verdict, motion, now, moved=True)
        if changed is None:
            self._finished.append(motion.done if verdict.success else f"{motion.done} (failed: {verdict.problem})")
        return changed

    def _previewed(self, motion: Motion, now: Situation) -> Motion:
        """Corrected before it begins, as long as that is called for and allowed."""
        while self._judge is not None and self._corrections < self.config.corrections:
            path = foresee(motion.plan, now.objects)
            changed = self._corrected_by(self._judge.preview(motion.tried, path, now), motion, now, moved=False)
            if changed is None:
                break
            motion = changed
        return motion

    def _corrected_by(self, verdict: Verdict, motion: Motion, now: Situation, *, moved: bool) -> Motion | None:
        """None where nothing is wrong or can be mended, no correction is left, or the model makes nothing of it."""
        if verdict.success or not verdict.again or self._corrections >= self.config.corrections:
            return None
        self._corrections += 1
        self._say(CORRECTION, f"{self._corrections}: {verdict.correction()}")
        return self._again(motion, verdict.correction(), now, moved=moved)

    def _again(self, motion: Motion, correction: str, now: Situation, *, moved: bool) -> Motion | None:
        """None where the model makes nothing of the correction."""
        try:
            return self._chooser.again(motion, correction, now, moved=moved)
        except EpisodeError:
            return None

    def _confirmed(self, motion: Motion, now: Situation) -> Motion | None:
        while self._confirm is not None and (answer := self._confirm(f"{motion.done}: {motion.tried.words}")) != "":
            if answer is None:
                return None
            motion = self._again(motion, answer, now, moved=False) or motion
        return motion

    def _begin(self, motion: Motion, now: Situation) -> None:
        self._motions += 1
        self._motion = motion
        # A thing in the hand goes where the hand goes; to track it as the goal would lead away for ever.
        self._carried = now.objects if now.gripped() == motion.plan.goal_object else None
        self._hand.begin()
        self._follower = Follower(motion.plan, self.config.patience, closed=self._closed)
        self._say("subtask", f"{motion.tried.kind} {motion.tried.object}")
        self._say("motion", motion.tried.words)
        if self._judge is not None:
            self._judge.begin(motion.tried, now)

    def _stop(self, why: str) -> None:
        """The hand holds still from now on. why: what went wrong."""
        self._follower, self._motion, self._stopped = None, None, True
        if why:
            self._say("trouble", why)

    def _say(self, segment: str, words: str) -> None:
        self._words[segment], self._ages[segment] = words, 0

    def _actions(
        self, hand: Float64[np.ndarray, " 3"], objects: Mapping[str, NamedObject]
    ) -> Float32[np.ndarray, "h a"]:
        """For `execute` steps; the hand is taken to follow. Holds still without a motion."""
        rows = []
        for _ in range(self.config.execute):
            there, turned = hand, None
            if self._follower is not None:
                plan = self._follower.plan
                goal = plan.goal(objects if self._carried is None else self._carried)
                there = self._follower.step(hand, goal, 1 / self._hand.rate_hz)
                self._closed = self._follower.closed
                turned = self._follower.turned if self._hand.turns else None
            sent, hand = self._hand.lead(hand, there, turned, closed=self._closed)
            rows.append(sent)
        return np.stack(rows)
