"""Leading a hand by where it shall be and how far it shall have turned, also through the policy that a language model
sets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from volar.core.errors import ConfigError
from volar.core.objects import NamedObject, NamingWorld, Workspace
from volar.core.robot import ActionSpec, Env, Job, Observation, RobotSpec, Step
from volar.envs.rollout import run_episode
from volar.envs.tabletop.world import HIGH, LOW, Tabletop
from volar.nn.primitives.constrained import Box
from volar.policies.language_primitives import LanguagePrimitives
from volar.policies.led_hand import LedHand
from volar.policies.perception import SimulatorPerception
from volar.reasoning.language.following import Follower, Patience
from volar.reasoning.language.language_model import Answer, LanguageModel, Message
from volar.reasoning.language.motion_plan import plan_raw, plan_request
from volar.reasoning.language.motion_request import MotionRequest
from volar.reasoning.language.raw_weights import RawRequest

POSE = ActionSpec(
    names=("x", "y", "z", "rx", "ry", "rz", "gripper"), units=("5 cm",) * 3 + ("0.5 rad",) * 3 + ("normalised",),
    low=(-1.0,) * 7, high=(1.0,) * 7, control="delta_pose", rotation="axis_angle", gripper="positive_opens",
    frame="world", rate_hz=20.0,
)  # fmt: skip
SEEN = ("hand_x", "hand_y", "hand_z", "hand_rx", "hand_ry", "hand_rz")
ROBOT = RobotSpec(action=POSE, cameras=(), proprioception=SEEN)
OBJECTS = {"cup": NamedObject(position=np.array([0.1, 0.1, 0.05]), size=np.full(3, 0.05))}
DOWN = Rotation.from_rotvec([np.pi, 0.0, 0.0])


def seen(place: Sequence[float], facing: Rotation) -> Observation:
    numbers = np.concatenate([place, facing.as_rotvec()]).astype(np.float32)
    return Observation(images={}, proprioception=numbers, instruction="", time=0.0)


def applied(facing: Rotation, action: np.ndarray, *, obeyed: float = 1.0) -> Rotation:
    return Rotation.from_rotvec(0.5 * obeyed * action[3:6]) * facing


class TestTurns:
    def test_are_held_against_an_arm_that_gives_way(self) -> None:
        random, hand = np.random.default_rng(0), LedHand(ROBOT)
        first = facing = Rotation.random(random_state=0)
        for step in range(60):
            place = hand.look(seen([0.1, 0.0, 0.2], facing))
            action, _ = hand.lead(place, place, min(step / 30, 1.0), closed=False)
            assert np.abs(action).max() <= 1.0 and action[6] == 1.0  # positive opens
            nudge = Rotation.from_rotvec(random.normal(0, 0.02, 3)) if step < 50 else Rotation.identity()
            facing = nudge * applied(facing, action, obeyed=0.6)
        assert (facing * first.inv()).as_rotvec() == pytest.approx([0.0, 0.0, 1.0], abs=0.01)

    def test_add_up_over_motions_and_stay_between_them(self) -> None:
        hand, facing = LedHand(ROBOT), DOWN
        for turned in (0.4, None, None, 0.2):
            if turned is not None:
                hand.begin()
            place = hand.look(seen([0.0, 0.0, 0.2], facing))
            action, there = hand.lead(place, place + 0.01, turned, closed=True)
            assert there == pytest.approx(place + 0.01) and action[:3] == pytest.approx([0.2] * 3)
            facing = applied(facing, action)
        assert hand.turned == pytest.approx(0.6)
        assert (facing * DOWN.inv()).as_rotvec() == pytest.approx([0.0, 0.0, 0.6], abs=1e-6)
        hand.reset()
        assert hand.turned == 0.0

    def test_go_on_within_a_chunk_without_a_look(self) -> None:
        hand = LedHand(ROBOT)
        place, facing = hand.look(seen([0.0, 0.0, 0.2], DOWN)), DOWN
        for _ in range(4):
            action, place = hand.lead(place, place, 1.5, closed=False)
            facing = applied(facing, action)
        assert (facing * DOWN.inv()).as_rotvec() == pytest.approx([0.0, 0.0, 1.5], abs=1e-6)

    @pytest.mark.parametrize(
        ("robot", "words"),
        [
            (replace(ROBOT, action=replace(POSE, rotation="euler_xyz")), "euler_xyz"),
            (replace(ROBOT, action=replace(POSE, frame="tool")), "'tool'"),
            (replace(ROBOT, action=replace(POSE, control="absolute_pose")), "absolute_pose"),
            (replace(ROBOT, action=replace(POSE, gripper="none")), "sign of the gripper"),
            (replace(ROBOT, action=replace(POSE, units=("5 miles",) * 3 + POSE.units[3:])), "5 miles"),
            (replace(ROBOT, action=replace(POSE, units=("5 cm", "1 cm", "5 cm", *POSE.units[3:]))), "1 cm"),
            (replace(ROBOT, proprioception=SEEN[:5]), "hand_rz are missing"),
        ],
    )
    def test_of_robots_that_do_not_say_what_they_mean_are_refused(self, robot: RobotSpec, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            LedHand(robot)


class TestMotionsThatTurn:
    box = Box(low=np.array([-0.25, -0.25, 0.01]), high=np.array([0.25, 0.25, 0.25]))

    def turns_of(self, plan: Any) -> list[float]:
        follower, hand, turns = Follower(plan, Patience(), closed=False), plan.start, []
        while not follower.finished:
            hand = follower.step(hand, plan.goal(OBJECTS), 0.05)
            turns.append(follower.turned)
        return turns

    def test_arrive_turned_and_no_faster_than_a_hand_may(self) -> None:
        request = MotionRequest(goal_object="cup", yaw_rad=-1.2, speed_m_s=0.3)
        turns = self.turns_of(plan_request(request, OBJECTS["cup"].position, OBJECTS, self.box))
        assert turns[-1] == pytest.approx(-1.2, abs=0.01) and np.all(np.diff(turns) < 1e-6)
        assert np.abs(np.diff(turns)).max() / 0.05 <= 1.01

    def test_may_be_bent_by_published_weights(self) -> None:
        """The yaw row's gain is ten times that of a way's, so 0.1 in its first two indices is some 0.2 rad."""
        rows = [[0.0] * 11 for _ in range(5)]
        rows[3][:2] = [0.1, 0.1]
        request = RawRequest(weights=tuple(map(tuple, rows)), angle=0.5)
        plan = plan_raw(request, "cup", np.array([0.0, 0.0, 0.1]), OBJECTS, self.box, closes=True, duration=4.0)
        plain = replace(plan, turn_weights=None)
        bent, straight = self.turns_of(plan), self.turns_of(plain)
        assert bent[-1] == pytest.approx(0.5, abs=0.02) == straight[-1]
        assert 0.1 < np.subtract(bent, straight).max() < 0.4


class Turning(Env, NamingWorld):
    """`tabletop` with a hand that takes turns, which nothing on the table feels."""

    def __init__(self) -> None:
        self.table = Tabletop("pick-place-red", cameras={})
        inner = self.table.spec
        action = replace(
            inner.action, names=POSE.names, units=(*inner.action.units[:3], *("rad",) * 3, inner.action.units[3]),
            low=(*inner.action.low[:3], *(-0.1,) * 3, inner.action.low[3]),
            high=(*inner.action.high[:3], *(0.1,) * 3, inner.action.high[3]), control="delta_pose",
            rotation="axis_angle", frame="world",
        )  # fmt: skip
        self._spec = replace(inner, action=action, proprioception=(*inner.proprioception, *SEEN[3:]))

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    @property
    def task(self) -> str:
        return "turning"

    def reset(self, seed: int) -> None:
        self.table.reset(seed)
        self.facing = DOWN

    def observe(self, *, images: bool = True) -> Observation:
        found = self.table.observe(images=images)
        numbers = np.append(found.proprioception, self.facing.as_rotvec()).astype(np.float32)
        return replace(found, proprioception=numbers)

    def step(self, action: np.ndarray) -> Step:
        self.facing = Rotation.from_rotvec(action[3:6]) * self.facing
        return self.table.step(action[[0, 1, 2, 6]])

    def named_objects(self) -> Mapping[str, NamedObject]:
        return self.table.named_objects()

    def workspace(self) -> Workspace:
        return self.table.workspace()

    def digest(self) -> str:
        return self.table.digest()

    def describe(self) -> dict[str, Any]:
        return self.table.describe()

    def measure(self) -> dict[str, float]:
        return self.table.measure()

    def close(self) -> None:
        self.table.close()


class Says(LanguageModel):
    """These answers one after the other, then that all is done."""

    def __init__(self, *answers: Mapping[str, Any]) -> None:
        self.answers, self.told = list(answers), []

    def describe(self) -> dict[str, Any]:
        return {"model": "says"}

    def answer(self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None) -> Answer:
        self.told.append(messages[-1].text)
        said = self.answers.pop(0) if self.answers else {"done": True}
        return Answer(text=json.dumps(said), read=None, written=None, seconds=0.0)


def test_a_language_model_turns_a_hand_that_can() -> None:
    env = Turning()
    model = Says(
        {"goal_object": "red cube", "yaw_rad": 1.5708, "speed_m_s": 0.3, "gripper": [{"event": "close"}],
         "vias": [{"at_fraction": 0.9, "axis": "z", "clearance_m": 0.05}]},
        {"goal_object": "red cube", "goal_offset_m": [0, 0, 0.1], "yaw_rad": -0.5, "speed_m_s": 0.3},
    )  # fmt: skip
    actor = LanguagePrimitives(
        LanguagePrimitives.Config(decompose=False), model, SimulatorPerception(), spec=env.spec,
        workspace=Workspace(low=LOW, high=HIGH, directions="x points down the hall"),
    )  # fmt: skip
    episode = run_episode(env, actor, Job(task="turning", seed=3, arm="says", max_steps=300))
    assert episode.error is None and episode.tracks["object_lifted"].high > 0.05
    assert (env.facing * DOWN.inv()).as_rotvec() == pytest.approx([0.0, 0.0, 1.0708], abs=0.02)
    assert "turned by +0.00 rad" in model.told[0] and "turned by +1.57 rad" in model.told[1]
    assert "; x points down the hall." in model.told[0]
    assert "turned by +1.57 rad" in episode.thoughts[0].words["motion"]
