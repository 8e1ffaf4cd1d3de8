"""Environments: every one keeps the contract, Meta-World keeps its promises, the controls control."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from volar.core.errors import ConfigError, RobotFault
from volar.core.robot import Job
from volar.envs import TABLE, instructions, make_env, make_expert, tasks
from volar.envs.controls import BlankImages, OpenLoop, RandomActor
from volar.envs.metaworld import CAMERAS, MetaWorld
from volar.envs.offscreen import require_agreement
from volar.envs.rollout import run_episode
from volar.envs.state_bytes import label_of, pack, unpack

ONE_TASK_EACH = [
    "toy/reach-blue", "metaworld/faucet-open", "metaworld/window-close-shared", "metaworld-state/push",
    "tabletop/pick-place-red", "tabletop-state/fork",
]  # fmt: skip
SMALL = {
    "toy": {"top": 32}, "metaworld": {"corner4": 48, "gripperPOV": 32}, "tabletop": {"front": 48, "top": 32},
    "metaworld-state": {}, "tabletop-state": {},
}  # fmt: skip


def small(task):
    return make_env(task, cameras=SMALL[task.partition("/")[0]])


def random_actions(env, count, seed=0):
    low, high = env.spec.action.low, env.spec.action.high
    return np.random.default_rng(seed).uniform(low, high, (count, len(low))).astype(np.float32)


def pictures(env):
    return {name: image.copy() for name, image in env.observe().images.items()}


def same(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def course(env, actions, look_every=10):
    """Everything that a run brings, in comparable form."""
    seen = []
    for number, action in enumerate(actions):
        step = env.step(action)
        observation = env.observe(images=number % look_every == 0)
        seen.append((step, observation.digest(), observation.time))
    return seen, env.digest()


# Every environment ---------------------------------------------------------------------------------------------------


def test_every_environment_is_tried_here_or_in_a_file_of_its_own():
    assert {task.partition("/")[0] for task in ONE_TASK_EACH} | {"libero", "remote"} == set(TABLE)


@pytest.mark.parametrize("task", ONE_TASK_EACH)
def test_observation_fits_the_declared_spec(task):
    env = small(task)
    env.reset(0)
    seen = env.observe()
    declared = {camera.name: (camera.height, camera.width, 3) for camera in env.spec.cameras}
    assert {name: image.shape for name, image in seen.images.items()} == declared
    assert all(image.dtype == np.uint8 and image.std() > 5 for image in seen.images.values())
    assert seen.proprioception.shape == (len(env.spec.proprioception),)
    assert seen.instruction == instructions(task)[0]
    blind = env.observe(images=False)
    assert blind.images == {} and np.array_equal(blind.proprioception, seen.proprioception)
    facts = env.describe()
    json.dumps(facts)
    assert "any step" in facts["success"] and facts["frame_size"] == {
        name: shape[0] for name, shape in declared.items()
    }
    env.close()


@pytest.mark.parametrize("task", ONE_TASK_EACH)
def test_looking_changes_nothing_and_looks_the_same_twice(task):
    env, blind = small(task), small(task)
    env.reset(1), blind.reset(1)
    for action in random_actions(env, 20):
        env.step(action), blind.step(action)
        assert same(pictures(env), pictures(env))
        assert env.digest() == blind.digest()
    env.close(), blind.close()


@pytest.mark.parametrize(
    "task",
    [
        "toy/reach-red", "metaworld/pick-place", "metaworld/door-lock", "metaworld/soccer", "metaworld-state/hammer",
        "tabletop/precise", "tabletop-state/pick-place-blue",
    ],
)  # fmt: skip
def test_a_restored_run_replays_bit_identically(task):
    env = small(task)
    env.reset(4)
    before, after = np.split(random_actions(env, 110), [10])
    course(env, before)
    state, seen = env.save(), env.observe().digest()
    first = course(env, after)
    fresh, other = small(task), small(task)
    other.reset(5)
    for world in (env, fresh, other):
        world.restore(state)
        assert world.observe().digest() == seen and world.save() == state
        assert course(world, after) == first
        world.close()


def test_a_state_is_packed_exactly():
    values = {
        "vector": np.array([np.nan, -0.0, 1e-310]), "scalar": np.float32(0.1), "rows": np.arange(6).reshape(2, 3),
        "flag": True, "count": sys.maxsize, "ratio": 1 / 3, "nothing": None, "empty": np.zeros((0, 3)),
    }  # fmt: skip
    restored = unpack(pack("whose", values))
    assert label_of(pack("whose", values)) == "whose" and restored.keys() == values.keys()
    for name, value in values.items():
        assert type(restored[name]) is type(value), name
        assert value is None or np.asarray(restored[name]).tobytes() == np.asarray(value).tobytes()
        assert np.shape(restored[name]) == np.shape(value)
    restored["vector"][0] = 1.0


@pytest.mark.parametrize("task", ONE_TASK_EACH)
def test_a_seed_names_the_same_episode_in_used_and_fresh_environments(task):
    env, fresh = small(task), small(task)
    env.reset(7)
    begun = env.digest(), env.observe().digest()
    course(env, random_actions(env, 15))
    env.reset(8)
    assert env.digest() != begun[0]
    env.reset(7), fresh.reset(7)
    assert (env.digest(), env.observe().digest()) == begun == (fresh.digest(), fresh.observe().digest())
    env.close(), fresh.close()


@pytest.mark.parametrize("task", ONE_TASK_EACH)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_non_finite_action_is_refused_and_changes_nothing(task, bad):
    env = make_env(task, cameras={})
    env.reset(0)
    before, action = env.digest(), np.zeros(env.spec.action.dim, dtype=np.float32)
    action[1] = bad
    with pytest.raises(RobotFault, match="Non-finite action in y"):
        env.step(action)
    assert env.digest() == before
    env.close()


@pytest.mark.parametrize(
    ("task", "cameras", "message"),
    [
        ("metaworld/faucet-opne", None, "Did you mean 'faucet-open'"),
        ("metaworld/faucet-open", {"corner5": 64}, "Did you mean 'corner"),
        ("metaworld/faucet-open", {"corner4": 0}, "at least 1 pixel"),
        ("toy/reach-purple", None, "No toy task named 'reach-purple'"),
        ("toy/reach-red", {"side": 32}, "No toy camera named 'side'"),
        ("tabletop/froke", None, "Did you mean 'fork'"),
        ("tabletop/fork", {"fromt": 64}, "Did you mean 'front'"),
        ("tabletop/fork", {"top": 0}, "at least 1 pixel"),
        ("tabletop-state/fork", {"fromt": 64}, "Did you mean 'front'"),
        ("metawrold/reach", None, "Did you mean 'metaworld'"),
        ("faucet-open", None, "environment/task"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest_one(task, cameras, message):
    with pytest.raises(ConfigError, match=message):
        make_env(task, cameras=cameras)


@pytest.mark.parametrize("task", ONE_TASK_EACH)
def test_experts_refuse_a_foreign_world(task):
    other = small("metaworld/reach" if task.startswith("toy") else "toy/reach-red")
    with pytest.raises(ConfigError, match="expert acts in"):
        make_expert(task).bind(other)
    other.close()


def run_python(code, **environment):
    """What a process of its own prints. It must end well and quietly."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=300
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stdout


def test_environments_need_no_torch_and_the_table_needs_no_simulator():
    run_python(
        "import sys, volar.envs\n"
        "assert not {'mujoco', 'metaworld', 'torch'} & set(sys.modules)\n"
        "import volar.envs.rollout, volar.envs.controls, volar.envs.toy, volar.envs.metaworld\n"
        "import volar.envs.tabletop.world\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )


# Meta-World ----------------------------------------------------------------------------------------------------------


def test_all_fifty_tasks_exist_and_can_be_described():
    names = tasks("metaworld")
    assert len(names) == 50 and "metaworld/faucet-open" in names
    for name in names:
        (instruction,) = instructions(name)
        assert len(instruction.split()) >= 3
        env = make_env(name, cameras={})
        env.reset(0)
        assert np.isfinite(env.observe().proprioception).all()
        assert not env.step(np.zeros(4, dtype=np.float32)).success, name
        env.close()


def test_the_description_names_versions_and_the_render_recipe():
    env = make_env("metaworld/reach")
    facts = env.describe()
    assert facts["mujoco"] == "3.3.0" and facts["simulator"] == "metaworld 3.1.1"
    assert facts["renderer"] != "none" and set(facts["render_recipe"]) >= {"shadow_map", "multisamples", "reflections"}
    model = env._env.model
    assert (model.vis.quality.shadowsize, model.vis.quality.offsamples) == (0, 0)
    env.close()


def test_the_simulators_own_task_names_are_understood():
    env = make_env("metaworld/drawer-open-v3", cameras={})
    assert env.observe().instruction == "pull the drawer open"
    env.close()


def test_another_process_meets_the_same_initial_states():
    names = ["metaworld/push", "metaworld/faucet-close", "metaworld/assembly"]
    code = (
        "from volar.envs import make_env\n"
        f"for name in {names}:\n"
        "    env = make_env(name, cameras={'corner2': 64}); env.reset(11)\n"
        "    print(env.digest(), env.observe().digest()); env.close()"
    )
    elsewhere = run_python(code).split()
    here = []
    for name in names:
        env = make_env(name, cameras={"corner2": 64})
        env.reset(11)
        here += [env.digest(), env.observe().digest()]
        env.close()
    assert here == elsewhere


def test_the_action_means_what_the_spec_says():
    env = make_env("metaworld/reach", cameras={})
    for axis in range(3):
        env.reset(0)
        start = env.observe().proprioception
        push = np.zeros(4, dtype=np.float32)
        push[axis] = 1.0
        for _ in range(8):
            env.step(push)
        for _ in range(30):  # the arm trails behind the point that pulls it
            env.step(np.zeros(4, dtype=np.float32))
        moved = env.observe().proprioception[:3] - start[:3]
        assert env.spec.action.units[axis] == "cm"
        assert moved[axis] == pytest.approx(0.08, abs=0.01), "8 actions of 1 cm"
        assert np.abs(np.delete(moved, axis)).max() < 0.01
    assert env.observe().time == pytest.approx(38 / env.spec.action.rate_hz)
    opening = []
    for effort in (1.0, -1.0):
        for _ in range(20):
            env.step(np.array([0, 0, 0, effort], dtype=np.float32))
        opening.append(env.observe().proprioception[3])
    assert env.spec.action.gripper == "positive_closes" and opening[0] < 0.5 < 0.9 < opening[1]
    env.close()


def test_every_camera_is_upright():
    env = make_env("metaworld/reach", cameras={})
    env.reset(0)
    for name, rotated in CAMERAS.items():
        up = env._env.data.camera(name).xmat.reshape(3, 3)[2, 1]  # world height of the picture's upward direction
        assert (up < -0.3) == rotated, name
    env.close()


def test_the_default_view_is_corner2_moved_as_published():
    env = MetaWorld("reach")
    assert [(camera.name, camera.height) for camera in env.spec.cameras] == [("corner4", 112)]
    moved, shipped = (env._env.model.camera(name) for name in ("corner4", "corner2"))
    assert np.allclose(moved.pos, [0.75, 0.075, 0.7]) and not np.allclose(shipped.pos, moved.pos)
    assert np.allclose(moved.quat, shipped.quat) and moved.fovy == shipped.fovy
    env.close()


@pytest.mark.parametrize(
    ("task", "installed", "message"),
    [
        (
            "metaworld/reach",
            "3.9.0",
            r"Meta-World does not run on MuJoCo 3\.9.*peg-insert-side.*Found right: 3\.3\.0",
        ),
        ("metaworld/reach", "4.0.0", "the models do not load"),
        ("tabletop/push", "3.3.1", r"nobody has measured.*Found right: 3\.3\.0.*volar\[sim\]"),
    ],
)
def test_a_mujoco_on_which_the_benchmark_is_not_known_to_be_itself_is_refused(monkeypatch, task, installed, message):
    monkeypatch.setattr("volar.envs.offscreen.mujoco.__version__", installed)
    with pytest.raises(ConfigError, match=message):
        make_env(task, cameras={})


def test_pictures_survive_the_end_of_other_environments():
    env = make_env("metaworld/drawer-open", cameras={"corner4": 64, "topview": 48})
    env.reset(0)
    before = pictures(env)
    closed, forgotten = make_env("metaworld/push"), make_env("metaworld/push")
    for other in (closed, forgotten):
        other.reset(0)
        other.observe()
    closed.close()
    del other, forgotten
    assert same(before, pictures(env))
    env.close()


def test_a_renderer_that_draws_one_scene_in_two_ways_is_refused_before_anything_is_recorded(monkeypatch):
    env = make_env("tabletop/push", cameras={"front": 16})
    env.reset(0)
    drawn = []

    def corrupted(renderer, data, camera):
        drawn.append(camera.name)
        return np.full((16, 16, 3), len(drawn), dtype=np.uint8)

    monkeypatch.setattr("volar.envs.offscreen._draw", corrupted)
    with pytest.raises(ConfigError, match=r"256 of 256 pixels differ.*MUJOCO_GL=osmesa"):
        env.observe()
    env.close()
    same = np.zeros((4, 4, 3), dtype=np.uint8)
    require_agreement(same, same.copy())


def test_a_program_may_end_without_closing_its_environments():
    run_python(
        "from volar.envs import make_env\n"
        "kept = [make_env('metaworld/reach'), make_env('metaworld/push', cameras={'corner': 32, 'topview': 64})]\n"
        "for env in kept: env.reset(0); env.observe()"
    )


def test_a_machine_without_renderer_runs_physics_and_says_what_to_install():
    code = (
        "from volar.core.errors import ConfigError\n"
        "from volar.envs import make_env\n"
        "env = make_env('metaworld/reach'); env.reset(0); env.observe(images=False)\n"
        "assert env.describe()['renderer'] == 'none'\n"
        "try: env.observe()\n"
        "except ConfigError as error: print(error)"
    )
    assert "libegl1" in run_python(code, MUJOCO_GL="disabled")


@pytest.mark.parametrize("task", ["faucet-open", "faucet-close", "drawer-open", "button-press-topdown", "push"])
def test_experts_succeed(task):
    name = f"metaworld/{task}"
    env, expert = make_env(name), make_expert(name)
    episodes = [run_episode(env, expert, Job(task=name, seed=seed, arm="expert", max_steps=150)) for seed in range(3)]
    assert all(episode.success and 20 < episode.steps < 120 for episode in episodes)
    assert episodes[0].privileged == expert.privileged != ()
    assert not env.pictures.used, "nobody looked, so nothing may have been rendered"
    env.close()


@pytest.mark.parametrize("pair", MetaWorld.shared_scenes())
def test_in_a_shared_scene_only_the_instruction_tells_tasks_apart(pair):
    first, second = (MetaWorld(task, cameras={"corner4": 112}) for task in pair)
    for seed in range(4):
        first.reset(seed), second.reset(seed)
        ours, theirs = first.observe(), second.observe()
        assert same(dict(ours.images), dict(theirs.images))
        assert np.array_equal(ours.proprioception, theirs.proprioception)
        assert ours.instruction != theirs.instruction
    for env, other in ((first, second), (second, first)):
        job = Job(task=f"metaworld/{env.task}", seed=0, arm="expert", max_steps=150)
        right = run_episode(env, MetaWorld.expert(), job)
        assert right.success
        other.reset(0)
        assert not any(other.step(action).success for action in right.trajectory.executed), "the other task's way"
    first.close(), second.close()


def test_a_state_of_another_task_is_refused():
    env, other = make_env("metaworld/push", cameras={}), make_env("metaworld/reach", cameras={})
    env.reset(0)
    with pytest.raises(ConfigError, match="saved in the task 'push'"):
        other.restore(env.save())
    env.close(), other.close()


# Toy world and control arms ------------------------------------------------------------------------------------------


def test_the_toy_world_shares_its_scene_and_needs_the_instruction():
    names = tasks("toy")
    for seed in range(20):
        begun = []
        for name in names:
            env = make_env(name)
            episode = run_episode(env, make_expert(name), Job(task=name, seed=seed, arm="expert", max_steps=30))
            assert episode.success and episode.steps > 2
            env.reset(seed)
            begun.append(replace(env.observe(), instruction="").digest())
        assert len(set(begun)) == 1
    assert len({instructions(name)[0] for name in names}) == 3


def test_random_actor_is_seeded_bounded_and_apart_from_the_scene():
    env = make_env("toy/reach-red")
    actor = RandomActor(env.spec, execute=50)
    chunks = []
    for seed in (3, 3, 4):
        actor.reset(seed)
        env.reset(seed)
        chunks.append(actor.act(env.observe(images=False)).actions)
    assert np.array_equal(chunks[0], chunks[1]) and not np.array_equal(chunks[0], chunks[2])
    assert chunks[0].shape == (50, 2) and np.abs(chunks[0]).max() <= 1 and np.abs(chunks[0]).max() > 0.9
    scene = np.random.default_rng(3).uniform(-1, 1, (50, 2)).astype(np.float32)
    assert not np.array_equal(chunks[0], scene)


def test_an_open_loop_never_looks_and_keeps_its_last_action():
    steps = np.array([[0.1, 0.2], [0.3, 0.4]], dtype=np.float32)
    actor, env = OpenLoop(steps), make_env("toy/reach-red")
    for seed in (0, 1):
        env.reset(seed)
        actor.reset(seed)
        acted = [actor.act(env.observe(images=False)).actions[0] for _ in range(3)]
        np.testing.assert_array_equal(acted, steps[[0, 1, 1]])
    env.close()
    with pytest.raises(ConfigError, match="at least one action"):
        OpenLoop(steps[:0])


def test_blank_images_takes_away_the_pictures_only():
    seen = []

    class Spy(RandomActor):
        def act(self, observation):
            seen.append(observation)
            return super().act(observation)

    env = make_env("toy/reach-red")
    env.reset(0)
    blind = BlankImages(Spy(env.spec, execute=2))
    blind.reset(0)
    assert blind.act(env.observe()).actions.shape == (2, 2)
    assert seen[0].images["top"].shape == (32, 32, 3) and not seen[0].images["top"].any()
    assert seen[0].instruction == env.observe().instruction
    with pytest.raises(ConfigError, match="reads the simulator"):
        BlankImages(make_expert("toy/reach-red"))
