"""tabletop's sort: nine pairs on shared scenes, of which training shows six; detours and chains want every move."""

import numpy as np
import pytest

from volar.core.robot import Job
from volar.envs import make_env, make_expert
from volar.envs.rollout import run_episode
from volar.envs.tabletop.tasks import sort
from volar.envs.tabletop.world import Tabletop

SOME = (*sort.STRAIGHT, *tuple(sort.BY)[::6], *tuple(sort.TWO)[::12])


def demonstrate(task, seed, noise=0.1):
    env, expert = make_env(f"tabletop-state/{task}"), make_expert(f"tabletop-state/{task}")
    return run_episode(env, expert, Job(task=f"tabletop-state/{task}", seed=seed, arm="e", max_steps=300, noise=noise))


@pytest.mark.parametrize("task", SOME)
def test_experts_succeed(task):
    episodes = [demonstrate(task, seed) for seed in range(2)]
    assert all(episode.success for episode in episodes), [episode.failure for episode in episodes]
    assert all(episode.tracks["moves_done"].last == len(sort.MOVES[task]) for episode in episodes)


def test_all_tasks_share_their_scenes():
    (group,) = [group for group in Tabletop.shared_scenes() if "sort-red-to-white" in group]
    assert set(group) == set(sort.TASKS)
    digests = set()
    for task in SOME:
        env = Tabletop(task, cameras={})
        env.reset(7)
        digests.add((env.scene.objects.tobytes(), env.scene.goals.tobytes(), env.scene.hand.tobytes()))
    assert len(digests) == 1


def test_training_shows_every_cube_and_every_region_but_not_every_pair():
    assert not set(sort.TRAINED) & set(sort.HELD_OUT) and len(sort.TRAINED) + len(sort.HELD_OUT) == 9
    for names in (sort.TRAINED, sort.HELD_OUT):
        pairs = [sort.MOVES[name][0] for name in names]
        assert {cube for cube, _ in pairs} == set(sort.CUBES) and {place for _, place in pairs} == set(sort.PLACES)


def test_every_task_says_what_it_wants():
    said = [line for task in sort.TASKS.values() for line in task.instructions]
    assert len(set(said)) == len(said)
    assert sort.TASKS["sort-red-by-white-to-yellow"].instructions[0] == (
        "put the red cube onto the white region, then onto the yellow region"
    )
    assert sort.TASKS["sort-red-to-white-then-blue-to-yellow"].instructions[0] == (
        "put the red cube onto the white region, then put the blue cube onto the yellow region"
    )


def test_nothing_begins_on_a_region_and_the_hand_fits_beside_every_cube():
    env = Tabletop("sort-red-to-white", cameras={})
    for seed in range(60):
        env.reset(seed)
        begun = env.scene
        between = np.linalg.norm(begun.objects[:, None, :2] - begun.goals[None, :, :2], axis=-1)
        apart = np.linalg.norm(begun.goals[:, None, :2] - begun.goals[None, :, :2], axis=-1) + np.eye(3)
        assert between.min() > sort.RADIUS + 0.03 and apart.min() > 2 * sort.RADIUS
        assert env._data.contact.dist.min() > -1e-3


def carried_over(env, cube, place):
    """The expert of another task takes that cube to that region."""
    other = sort.TASKS[f"sort-{cube}-to-{place}"].expert
    for _ in range(150):
        step = env.step(np.clip(other(env.scene, (1.0, 1.0)), -1, 1).astype(np.float32))
        if step.success:
            break
    return step


@pytest.mark.parametrize(("cube", "place"), [("green", "white"), ("red", "yellow")])
def test_another_cube_or_another_region_is_no_success(cube, place):
    env = Tabletop("sort-red-to-white", cameras={})
    env.reset(0)
    assert not carried_over(env, cube, place).success


def test_a_detour_wants_the_way_before_the_end():
    env = Tabletop("sort-red-by-white-to-yellow", cameras={})
    env.reset(0)
    assert not carried_over(env, "red", "yellow").success and env.measure()["moves_done"] == 0
    assert not carried_over(env, "red", "white").success and env.measure()["moves_done"] == 1
    assert carried_over(env, "red", "yellow").success and env.measure()["moves_left"] == 0


def test_a_cube_counts_once_the_open_hand_has_left_it_and_what_is_done_is_part_of_the_state():
    env = Tabletop("sort-blue-by-white-to-yellow", cameras={})
    env.reset(1)
    while env.measure()["moves_done"] == 0:
        env.step(np.clip(env.task.expert(env.scene, (1.0, 1.0)), -1, 1).astype(np.float32))
        above = env.scene.hand[2] - env.scene.objects[sort.CUBES.index("blue"), 2]
        assert (above > sort.CLEAR and env.scene.opening > sort.OPEN) or not env.measure()["moves_done"]
    twin = Tabletop(env.name, cameras={})
    twin.restore(env.save())
    assert twin.measure()["moves_done"] == 1 and twin.digest() == env.digest()
