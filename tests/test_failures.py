"""Stage and cause of failed episodes: the rules themselves, and the environments' measures under planted failures."""

import numpy as np
import pytest
from synthetic_compare import BESIDE, episode, plan, run_info

from volar.comparison.analyse import analyse
from volar.comparison.protocol import freeze
from volar.core.evidence import Failure, Mishap, Motion, Signs, Stage, Track, explain
from volar.core.robot import Actor, Chunk, Job, Outcome
from volar.envs.evidence import Tracker, motion_of
from volar.envs.metaworld import MetaWorld
from volar.envs.rollout import run_episode
from volar.envs.tabletop.world import Tabletop
from volar.envs.toy import Toy
from volar.evaluation.records import RecordFile
from volar.evaluation.run import begin

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


def comparison_with_a_far_third(folder, seed, gap):
    """60 scenes, both arms at 60 %; in the third that begins farthest, B solves `gap` less."""
    random = np.random.default_rng(seed)
    protocol = plan({"a": ("a",), "b": ("b",)}, tasks=("metaworld/push",), scenes=90)
    freeze(folder, protocol)
    begin(folder, run_info(protocol), beside=BESIDE)
    with RecordFile(folder / "episodes.jsonl") as file:
        for number, at in enumerate(random.permutation(90) / 90):
            begun = {"left": Track(first=at, last=0.0, low=0.0, high=at, low_step=9, high_step=0)}
            for arm in "ab":
                rate = 0.8 - gap * (arm == "b" and at > 2 / 3)
                file.append(episode(arm, "metaworld/push", 1000 + number, bool(random.random() < rate), tracks=begun))
    return folder


def test_a_planted_region_is_found_and_none_is_made_up(tmp_path):
    found = analyse(comparison_with_a_far_third(tmp_path / "far", 0, 0.7)).failures.regions
    assert "the highest third of left" in found[0].region and found[0].interval.high < 0 and found[0].adjusted_p < 0.01
    assert found[0].scenes == 30 and all(region.adjusted_p > 0.05 for region in found[1:])
    for seed in range(1, 6):
        none = analyse(comparison_with_a_far_third(tmp_path / str(seed), seed, 0.0)).failures.regions
        assert none and all(region.adjusted_p > 0.05 for region in none)
