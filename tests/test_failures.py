"""Stage and cause of failed episodes: the rules themselves, and the environments' measures under planted failures."""

import numpy as np
import pytest

from volar.core.evidence import Failure, Mishap, Motion, Signs, Stage, Track, explain
from volar.core.robot import Actor, Chunk, Job, Outcome
from volar.envs.evidence import Tracker, motion_of
from volar.envs.metaworld import MetaWorld
from volar.envs.rollout import run_episode
from volar.envs.tabletop import Tabletop
from volar.envs.toy import Toy

SIGNS = Signs(
    stages=(
        Stage(name="reach", measure="distance", below=0.1, missed="never reached"),
        Stage(name="grasp", measure="height", above=0.05, missed="missed grasp", lost="dropped"),
        Stage(name="place", measure="left", below=0.02, missed="wrong place"),
    ),
    mishaps=(Mishap(cause="wrong object", measure="others", above=0.03),
             Mishap(cause="wrong way", measure="left", above=0.04, grew=True)),
    terminated="collision",
)  # fmt: skip
MOVING = Motion(still=0, reversals=0.0)


def tracks(**courses):
    tracker = Tracker()
    for values in zip(*courses.values(), strict=True):
        tracker.note(dict(zip(courses, values, strict=True)))
    return tracker.tracks()


FAR = {"distance": [0.5, 0.4, 0.3], "height": [0, 0, 0], "left": [0.3, 0.3, 0.3], "others": [0, 0, 0]}


@pytest.mark.parametrize(("change", "motion", "terminated", "stage", "cause"), [
    ({}, MOVING, False, "reach", "never reached"),
    ({"distance": [0.5, 0.05, 0.3]}, MOVING, False, "grasp", "missed grasp"),
    ({"distance": [0.5, 0.05, 0.05], "height": [0, 0.1, 0.1]}, MOVING, False, "place", "wrong place"),
    ({"distance": [0.5, 0.05, 0.05], "height": [0, 0.1, 0.0]}, MOVING, False, "grasp", "dropped"),
    ({"distance": [0.5, 0.05, 0.05], "height": [0, 0.1, 0.1], "left": [0.3, 0.01, 0.01]}, MOVING, False,
     "finish", "time-out"),
    ({"others": [0, 0.1, 0.1]}, MOVING, False, "reach", "wrong object"),
    ({"left": [0.3, 0.35, 0.3]}, MOVING, False, "reach", "wrong way"),
    ({}, MOVING, True, "reach", "collision"),
    ({}, Motion(still=60, reversals=0.0), False, "reach", "stuck"),
    ({}, Motion(still=0, reversals=0.7), False, "reach", "oscillation"),
])  # fmt: skip
def test_each_course_has_its_stage_and_cause(change, motion, terminated, stage, cause):
    found = explain(SIGNS, tracks(**{**FAR, **change}), motion, steps=100, terminated=terminated)
    assert (found.stage, found.cause) == (stage, cause) and found.evidence


def test_without_signs_the_robot_s_motion_still_tells_something():
    assert explain(Signs(), {}, MOVING, steps=50, terminated=False).cause == "time-out"
    assert explain(Signs(), {}, Motion(still=50, reversals=0.0), steps=50, terminated=False).cause == "stuck"
    assert explain(Signs(), {}, MOVING, steps=50, terminated=True) == Failure(
        stage="unknown", cause="terminated", evidence="the environment ended it after 50 steps"
    )


def test_tracks_keep_extremes_and_their_steps():
    assert tracks(left=[0.3, 0.1, 0.2])["left"] == Track(
        first=0.3, last=0.2, low=0.1, high=0.3, low_step=1, high_step=0
    )


def test_motion_counts_stillness_at_the_end_and_swinging():
    going = np.linspace(0, 1, 20)[:, None]
    assert motion_of(list(going), [np.ones(1)] * 20) == MOVING
    stopped = np.concatenate([going, np.ones((10, 1))])
    assert motion_of(list(stopped), [np.ones(1)] * 30).still == 10
    assert motion_of([np.zeros(1)] * 8, [np.ones(1)] * 8).still == 7
    swinging = [np.array([(-1.0) ** step]) for step in range(20)]
    assert motion_of(list(np.abs(np.sin(going * 9))), swinging).reversals == 1.0


class Fixed(Actor):
    """The same action for ever."""

    uses_images = False

    def __init__(self, action):
        self.action = np.asarray(action, dtype=np.float32)[None]

    def reset(self, seed):
        pass

    def act(self, observation):
        return Chunk(actions=self.action, execute=1)


def failure(env, action, task, steps=60):
    episode = run_episode(env, Fixed(action), Job(task=task, seed=1, arm="fixed", max_steps=steps))
    env.close()
    assert episode.outcome in (Outcome.TIME_OUT, Outcome.TERMINATED)
    return episode.failure


def test_environments_tell_planted_failures():
    """The hand that never goes there, one that stands, one that runs into the pillar, and the wrong disc."""
    assert failure(MetaWorld("push", cameras={}), [0, 0, 1, 0], "metaworld/push").stage == "reach"
    assert failure(Tabletop("push", cameras={}), [0, 0, 0, 0], "tabletop/push").cause == "stuck"
    assert failure(Tabletop("fork", cameras={}), [0, 1, 0, 1], "tabletop/fork", 150).cause == "collision"


def test_every_other_disc_is_the_wrong_one():
    env = Toy("reach-red")
    causes = []
    for angle in np.arange(0, 2 * np.pi, 0.2):
        job = Job(task="toy/reach-red", seed=1, arm="fixed", max_steps=40)
        episode = run_episode(env, Fixed([np.cos(angle), np.sin(angle)]), job)
        causes += [episode.failure.cause] if episode.outcome is Outcome.TERMINATED else []
    assert set(causes) == {"wrong object"}


def test_a_success_has_no_failure_and_a_record_keeps_the_tracks():
    env = Tabletop("push", cameras={})
    episode = run_episode(env, Tabletop.expert(), Job(task="tabletop/push", seed=2, arm="expert", max_steps=200))
    assert episode.success and episode.failure is None
    assert episode.tracks["left"].low < 0.015 < episode.tracks["left"].first
