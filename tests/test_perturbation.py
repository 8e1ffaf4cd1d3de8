"""Perturbation axes: names are read or refused, the scene underneath stays, levels grow, states restore exactly."""

import itertools
import re

import numpy as np
import pytest

from volar.core.errors import ConfigError
from volar.core.robot import Job, Outcome
from volar.envs import instructions, make_env, make_expert, tasks
from volar.envs.perturbation import LEVELS, TABLE
from volar.envs.perturbation.axis import BeginningAxis, ObservationAxis, PictureAxis
from volar.envs.perturbation.paraphrase import Paraphrase
from volar.envs.rollout import run_episode
from volar.envs.task_names import parse_task
from volar.evaluation.records import EpisodeRecord
from volar.evaluation.robustness import robustness_curves

from synthetic_run import make_episode  # isort: skip

WORLDS = ["metaworld/push", "tabletop/pick-place-red"]
SEEN = [axis for axis in TABLE if issubclass(TABLE.load(axis), PictureAxis)]
BEGUN = [axis for axis in TABLE if issubclass(TABLE.load(axis), BeginningAxis)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("push", "environment/task"),
        ("metaworld/push@camra=2", "Did you mean 'camera'"),
        ("metaworld/push@camera=6", "Levels of camera are 1 to 5, got '6'"),
        ("metaworld/push@camera=0", "The unperturbed task is metaworld/push"),
        ("metaworld/push@camera", "written axis=level"),
        ("metaworld/push@", "written axis=level"),
        ("metaworld/push@camera=1,camera=2", "twice"),
        ("toy/reach-red@camera=1", "toy has no axis camera; it has paraphrase and sensor"),
        ("tabletop-state/push@light=1", "shows no pictures"),
    ],
)
def test_what_is_no_perturbation_is_refused_with_the_remedy(name, said):
    with pytest.raises(ConfigError, match=said):
        make_env(name)


def test_a_name_falls_into_its_parts():
    name = parse_task("metaworld/push@camera=2,light=1")
    assert (name.environment, name.task, name.base) == ("metaworld", "push", "metaworld/push")
    assert dict(name.levels) == {"camera": 2, "light": 1}
    assert instructions("metaworld/push@camera=2") == instructions("metaworld/push")


@pytest.mark.parametrize("axis", TABLE)
def test_sizes_grow_with_the_level_and_the_record_says_them(axis):
    sizes = TABLE.load(axis).sizes
    assert len(sizes) == len(LEVELS) and all(low < high for low, high in itertools.pairwise(sizes))
    described = TABLE.load(axis)(3).describe()
    assert described["level"] == 3 and f"{sizes[2]:g}" in described["size"]


def begun(task, seed=3, cameras=None):
    """The observation and the world's own facts at the beginning of an episode."""
    env = make_env(task, cameras=cameras)
    try:
        env.reset(seed)
        return env.observe(), env.unwrapped.object_state, env.unwrapped.digest(), env.spec
    finally:
        env.close()


@pytest.mark.sim
@pytest.mark.parametrize("axis", SEEN)
def test_picture_axes_change_the_picture_more_and_more_and_nothing_else(axis):
    task = "tabletop/pick-place-red"
    clean, _, state, spec = begun(task)
    apart = []
    for level in (1, 3, 5):
        seen, _, same, robot = begun(f"{task}@{axis}={level}")
        assert same == state and robot == spec and np.array_equal(seen.proprioception, clean.proprioception)
        apart.append(np.abs(seen.images["front"].astype(int) - clean.images["front"]).mean())
    assert 0.3 < apart[0] < apart[1] < apart[2]
    again = begun(f"{task}@{axis}=5")[0]
    assert again.digest() == seen.digest() != begun(f"{task}@{axis}=5", seed=4)[0].digest()


@pytest.mark.sim
def test_meta_world_is_painted_over_and_back():
    env = make_env("metaworld/push@background=5,camera=5,light=5", cameras={"corner4": 48})
    world, pictures = env.unwrapped, []
    for seed in (0, 1, 0):
        env.reset(seed)
        pictures.append(env.observe().images["corner4"].astype(int))
    assert np.array_equal(pictures[0], pictures[2]) and np.abs(pictures[0] - pictures[1]).mean() > 10
    robot = [
        geom for geom in range(world.model.ngeom) if world.model.body(world.model.geom_bodyid[geom]).name == "hand"
    ]
    assert not set(robot) & set(world.background) and len(world.background) >= 4
    env.close()


@pytest.mark.parametrize("task", WORLDS)
def test_the_hand_begins_as_far_away_as_the_level_says_in_the_same_direction(task):
    clean, objects, _, _ = begun(task, cameras={})
    moves = []
    for level in (1, 3, 5):
        seen, same, _, _ = begun(f"{task}@initial={level}", cameras={})
        moves.append((seen.proprioception - clean.proprioception)[:3])
        assert np.allclose(same, objects, atol=1e-3), "objects stay"
    lengths = [float(np.linalg.norm(move)) for move in moves]
    assert np.allclose(lengths, np.array(TABLE.load("initial").sizes[::2]) / 100, atol=0.006)  # Meta-World's arm sags
    assert all(move @ moves[-1] > 0.9 * a * lengths[-1] for move, a in zip(moves, lengths, strict=True))


@pytest.mark.parametrize("task", WORLDS)
def test_the_layout_moves_as_one_as_far_as_the_level_says(task):
    clean, moved = (make_env(name, cameras={}) for name in (task, f"{task}@layout=5"))
    for seed in range(3):
        clean.reset(seed), moved.reset(seed)
        before, after = clean.unwrapped.object_state, moved.unwrapped.object_state
        first, goal = (after - before)[:3], (after - before)[-3:]
        assert np.linalg.norm(first) == pytest.approx(0.05, abs=1e-3)
        assert np.allclose(first, goal, atol=1e-3), "object and goal keep their places relative to one another"
        hands = [env.observe(images=False).proprioception for env in (clean, moved)]
        assert np.allclose(*hands, atol=1e-3), "the hand stays"
        assert first[:2] @ (before[:2] - [0, 0.65 if task.startswith("metaworld") else 0]) > 0, "outwards"
    clean.close(), moved.close()


@pytest.mark.parametrize("axis", BEGUN)
@pytest.mark.parametrize("task", ["metaworld/faucet-open", "tabletop-state/push", "tabletop/precise"])
def test_experts_still_succeed_where_things_begin_elsewhere(task, axis):
    name = f"{task}@{axis}=5"
    env, expert = make_env(name, cameras={}), make_expert(name)
    episodes = [run_episode(env, expert, Job(task=name, seed=seed, arm="expert", max_steps=200)) for seed in range(3)]
    assert all(episode.success for episode in episodes)
    env.close()


ALL = ",".join(f"{axis}=3" for axis in TABLE if axis not in SEEN)


@pytest.mark.parametrize("task", [f"metaworld/push@{ALL}", f"tabletop-state/push@{ALL}", "toy/reach-red@sensor=5"])
def test_a_restored_run_replays_bit_identically_noise_and_delay_included(task):
    env, fresh = make_env(task), make_env(task)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, env.spec.action.dim)).astype(np.float32)

    def course(world, sent):
        return [(world.step(action), world.observe(images=False).digest()) for action in sent]

    env.reset(4)
    course(env, actions[:15])
    state, digest = env.save(), env.digest()
    first = course(env, actions[15:])
    fresh.reset(9)
    for world in (env, fresh):
        world.restore(state)
        assert world.save() == state and world.digest() == digest
        assert course(world, actions[15:]) == first
    env.close(), fresh.close()


def test_observing_late_changes_nothing_but_what_is_seen():
    clean, late = make_env("tabletop-state/push"), make_env("tabletop-state/push@sensor=5")
    late._axes["sensor"].size = 0.0  # leaves the delay alone: 160 ms, 3 control steps
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 4)).astype(np.float32)
    clean.reset(2), late.reset(2)
    felt = [clean.observe().proprioception]
    for step, action in enumerate(actions, start=1):
        assert clean.step(action) == late.step(action)
        felt.append(clean.observe().proprioception)
        assert np.array_equal(late.observe().proprioception, felt[max(0, step - 3)])
    assert late.unwrapped.digest() == clean.unwrapped.digest()


@pytest.mark.sim
def test_sensor_noise_has_the_size_it_says():
    clean, noisy = (begun(f"tabletop/push{at}", 0)[0] for at in ("", "@sensor=4"))
    grey = (noisy.images["front"].astype(float) - clean.images["front"])[(clean.images["front"] > 60)]
    assert 9.3 < grey[grey < 100].std() < 10.7  # 5 grey levels per mm, 2 mm
    felt = []
    env = make_env("tabletop-state/push@sensor=4")
    world = env.unwrapped
    for seed in range(60):
        env.reset(seed)
        felt.append(env.observe().proprioception[:3] - world.observe(images=False).proprioception[:3])
    assert 0.0017 < np.std(felt) < 0.0023
    env.close()


SAID = ("fork", "push", "precise", "pick-place-red", "attribute-largest", "button-press",
        "compose-put-red-ball-in-drawer")  # fmt: skip


@pytest.mark.parametrize("task", [*tasks("metaworld"), *(f"tabletop/{name}" for name in SAID)])
def test_every_instruction_can_be_said_otherwise(task):
    text = instructions(task)[0]
    colours = [word for word in ("red", "green", "blue", "yellow", "left", "right") if word in text.split()]
    for seed in range(5):
        said = [Paraphrase(level).reword(text, seed) for level in LEVELS]
        assert len({text, *said}) == 1 + len(LEVELS) or said[1] == said[2], "a noun may have no synonym"
        assert said[1] != said[0], "a verb has"
        assert said == [Paraphrase(level).reword(text, seed) for level in LEVELS]
        assert all(re.search(rf"\b{word}\b", each) for word in colours for each in said)


def test_two_things_never_become_one():
    said = {Paraphrase(3).reword("put the cube on the block", seed) for seed in range(30)}
    assert all("cube" in text.split() and "block" in text.split() for text in said)


def test_a_state_of_another_perturbation_and_a_hand_camera_are_refused():
    env, other = make_env("tabletop-state/push@sensor=1"), make_env("tabletop-state/push@sensor=2")
    env.reset(0)
    with pytest.raises(ConfigError, match="saved under 'sensor=1'"):
        other.restore(env.save())
    riding = make_env("metaworld/push@camera=1", cameras={"gripperPOV": 32})
    with pytest.raises(ConfigError, match="ride on the robot"):
        riding.reset(0)
    bolted = make_env("metaworld/bin-picking@layout=1", cameras={})
    with pytest.raises(ConfigError, match="would leave the bin"):
        bolted.reset(0)
    riding.close(), bolted.close()


def test_the_record_says_what_was_perturbed():
    env = make_env("tabletop-state/push@layout=2,sensor=1")
    facts = env.describe()["perturbation"]
    assert facts["layout"]["size"] == "2 cm" and facts["sensor"]["level"] == 1
    assert issubclass(TABLE.load("sensor"), ObservationAxis)


# Robustness curves ----------------------------------------------------------------------------------------------------


def records(won):
    """won: task -> successes by seed; None is a broken episode."""
    outcome = {True: "success", False: "time_out", None: "error"}
    return [
        EpisodeRecord(episode=make_episode(task, seed, outcome=Outcome(outcome[each])))
        for task, row in won.items()
        for seed, each in enumerate(row)
    ]


def test_a_curve_pairs_every_level_with_the_unperturbed_scene():
    won = {
        "toy/a": [True] * 8 + [False] * 2,
        "toy/a@camera=1": [True] * 8 + [False] * 2,
        "toy/a@camera=4": [False] * 6 + [True] * 4,
        "toy/a@camera=4,light=1": [False] * 10,
    }
    (curve,) = robustness_curves(tuple(won), ("policy",), records(won))
    assert (curve.axis, curve.tasks, [level.level for level in curve.levels]) == ("camera", ("toy/a",), [0, 1, 4])
    assert [level.rate.estimate for level in curve.levels] == pytest.approx([0.8, 0.8, 0.4])
    none, same, fall = (level.drop for level in curve.levels)
    assert none is None and same.estimate == 0 and fall.estimate == pytest.approx(-0.4)
    assert fall.low < fall.estimate < fall.high
    assert curve.area == pytest.approx((0.8 * 1 + 0.6 * 3) / 4)


def test_a_level_that_lacks_a_task_or_whose_episodes_broke_is_no_point_of_the_curve():
    won = {"toy/a@light=1": [True, None], "toy/b@light=1": [False], "toy/a@light=2": [True], "toy/b@light=2": [None]}
    (curve,) = robustness_curves(tuple(won), ("policy",), records(won))
    assert [(level.level, level.scored, level.drop) for level in curve.levels] == [(1, 2, None)]
    assert curve.levels[0].rate.estimate == pytest.approx(0.5) and curve.area is None
    begun = {"toy/a": [True], "toy/a@light=1": []}
    assert robustness_curves(tuple(begun), ("policy",), records(begun)) == (), "level 0 alone is no curve"
    assert robustness_curves(("toy/a", "theirs@home"), ("policy",), records({"toy/a": [True]})) == ()
