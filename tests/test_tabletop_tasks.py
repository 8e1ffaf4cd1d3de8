"""tabletop's obstacle, memory and horizon: experts do them, the traps are traps, and what an episode remembers is part
of its state."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from volar.core.robot import Actor, Chunk, Job, Outcome
from volar.data.formats import open_dataset
from volar.data.writer import DatasetWriter
from volar.envs import make_env, make_expert
from volar.envs.rollout import run_episode
from volar.envs.state_bytes import pack, unpack
from volar.envs.tabletop.grammar import parse
from volar.envs.tabletop.task import Scene
from volar.envs.tabletop.tasks import chores, horizon, memory, obstacle
from volar.envs.tabletop.world import Tabletop

SHORT = [*obstacle.TASKS, "memory-0", "memory-1", "horizon-1", "horizon-2-knocked", "horizon-plan-2"]
WAIT = np.array([0, 0, 0, -1], dtype=np.float32)


def demonstrate(task, seed, noise=0.1, max_steps=400, frames="none"):
    env, expert = make_env(f"tabletop/{task}", cameras={}), make_expert(f"tabletop/{task}")
    job = Job(task=f"tabletop/{task}", seed=seed, arm="expert", max_steps=max_steps, noise=noise, frames=frames)
    return run_episode(env, expert, job)


def expert_in(env, seed):
    expert = Tabletop.expert()
    env.reset(seed)
    expert.reset(seed)
    expert.bind(env)
    return lambda: expert.act(env.observe(images=False)).actions[0]


@pytest.mark.parametrize("task", SHORT)
def test_experts_succeed(task):
    episodes = [demonstrate(task, seed) for seed in range(3)]
    assert [episode.outcome for episode in episodes] == [Outcome.SUCCESS] * 3, [e.failure for e in episodes]


# Obstacle ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "fraction"), [("obstacle-25", 0.25), ("obstacle-75", 0.75)])
def test_the_obstacle_stands_at_its_fraction_of_the_straight_path(task, fraction):
    env = Tabletop(task, cameras={})
    for seed in range(5):
        env.reset(seed)
        scene = env.scene
        cube, (goal, hindrance) = scene.objects[0, :2], scene.goals[:, :2]
        assert np.allclose(hindrance, cube + fraction * (goal - cube))


@pytest.mark.parametrize("task", obstacle.TASKS)
def test_the_straight_path_touches_and_that_ends_the_episode(task):
    """The expert of pick-and-place knows of no obstacle."""
    from volar.envs.tabletop.motions import carry

    env = Tabletop(task, cameras={})
    for seed in range(3):
        env.reset(seed)
        for _ in range(120):
            scene = env.scene
            action = carry(scene, scene.objects[0], scene.goal, grip=0.0, lift=0.05, tolerance=0.01, lower=0.016)
            step = env.step(np.clip(action, -1, 1).astype(np.float32))
            if step.terminated:
                break
        assert step.terminated and not step.success


def test_an_obstacle_is_passed_left_right_and_over_from_the_same_start():
    env, expert, ways = Tabletop("obstacle-50", cameras={}), Tabletop.expert(), Counter()
    for seed in range(12):
        env.reset(0)
        expert.reset(seed)
        expert.bind(env)
        step, beside = None, None
        while step is None or not step.success:
            step = env.step(expert.act(env.observe(images=False)).actions[0])
            cube, middle = env.scene.objects[0], env.scene.goals[1]
            if abs(cube[0] - middle[0]) < 0.01:
                beside = "over" if cube[2] > 0.11 else "left" if cube[1] > middle[1] else "right"
        ways[beside] += 1
    assert set(ways) == {"over", "left", "right"}


# Memory --------------------------------------------------------------------------------------------------------------


def with_the_other_cue(env):
    """The same state, but for what the task remembers of the lamp."""
    values = unpack(env.save())
    twin = Tabletop(env.name, cameras={"front": 48})
    twin.restore(pack(env.name, {**values, "notes": 1 - np.asarray(values["notes"])}))
    return twin


@pytest.mark.parametrize("seed", [0, 1])
def test_once_the_lamp_is_out_nothing_in_sight_tells_the_cue(seed):
    env = Tabletop("memory-1", cameras={"front": 48})
    actions = np.random.default_rng(seed).uniform(-1, 1, (70, 4)).astype(np.float32)
    env.reset(seed)
    twin = with_the_other_cue(env)
    differed = []
    for action in actions:
        env.step(action), twin.step(action)
        seen, other = (replace(world.observe(), instruction="") for world in (env, twin))
        shown = np.array_equal(env.object_state, twin.object_state)
        differed.append((seen.digest() != other.digest(), not shown))
    lit = round(memory.CUE * env.spec.action.rate_hz)
    assert all(picture and state for picture, state in differed[: lit - 1])
    assert not any(picture or state for picture, state in differed[lit:])
    assert env.digest() != twin.digest(), "the world itself remembers"
    env.close(), twin.close()


def test_without_a_delay_the_lamp_shines_on():
    env = Tabletop("memory-0", cameras={})
    env.reset(0)
    for _ in range(60):
        env.step(WAIT)
    assert env.scene.goals[memory.LAMP, 2] == memory.LAMP_HEIGHT


@pytest.mark.parametrize("view", ["tabletop", "tabletop-state"])
def test_the_record_says_that_the_expert_knows_the_cue(view):
    env, expert = make_env(f"{view}/memory-0", cameras={}), make_expert(f"{view}/memory-0")
    episode = run_episode(env, expert, Job(task=f"{view}/memory-0", seed=0, arm="expert", max_steps=3))
    assert "what the task remembers: cue, plan, progress" in episode.privileged


@pytest.mark.parametrize("delay", [1, 5])
def test_the_cube_is_out_of_reach_until_the_delay_is_over(delay):
    env = Tabletop(f"memory-{delay}", cameras={})
    act, closed = expert_in(env, 0), 0
    steps = 0
    while not env.step(act()).success:
        steps += 1
        closed += env.scene.goals[memory.FENCE, 2] == 0.0
    assert closed == pytest.approx(20 * (memory.CUE + delay), abs=1)
    env.reset(0)
    grab = np.array([0, 0, -1, -1], dtype=np.float32)
    for _ in range(15):
        env.step(grab)
    assert env.scene.hand[2] > memory.FENCE_HEIGHT, "the fingers stand on the fence"


def test_the_wrong_bowl_ends_the_episode_and_half_of_the_seeds_mean_either():
    env = Tabletop("memory-1", cameras={})
    cued = []
    for seed in range(40):
        env.reset(seed)
        cued.append(int(env.scene.notes[0]))
    assert 10 < sum(cued) < 30
    env.reset(0)
    for _ in range(200):
        scene = env.scene
        action = env.task.expert(replace(scene, notes=1 - scene.notes), (1.0, 1.0))
        step = env.step(np.clip(action, -1, 1).astype(np.float32))
        if step.success or step.terminated:
            break
    assert step.terminated and not step.success


# Horizon -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", horizon.LENGTHS)
def test_plans_are_possible_and_drawn_by_the_seed(length):
    env = Tabletop(f"horizon-{length}", cameras={})
    plans = []
    for seed in range(4):
        env.reset(seed)
        plan, at = horizon.Chain.of(env.scene).plan, {}
        assert len(plan) == length
        for cube, region, _ in plan:
            assert region not in at.values(), "a cube is sent to a free region"
            at[cube] = region
        plans.append(plan.tobytes())
    assert len(set(plans)) > 1


class Recorded(Actor):
    """An expert, and what it was told."""

    privileged = ("simulator state: object and goal poses",)
    uses_images = False

    def __init__(self, env):
        self._expert, self._env, self.told = Tabletop.expert(), env, []

    def reset(self, seed):
        self._expert.reset(seed)
        self._expert.bind(self._env)

    def act(self, observation):
        self.told.append(observation.instruction)
        return self._expert.act(observation)


def told(task, seed=0):
    env = Tabletop(task, cameras={})
    actor = Recorded(env)
    episode = run_episode(env, actor, Job(task=f"tabletop/{task}", seed=seed, arm="a", max_steps=400))
    assert episode.success
    return list(dict.fromkeys(actor.told)), episode


def test_the_instruction_is_the_present_sub_task_or_the_whole_plan():
    single, episode = told("horizon-2")
    whole, whole_episode = told("horizon-plan-2")
    assert len(single) == 2 and whole == [", then ".join(single)]
    assert list(dict.fromkeys(episode.trajectory.instructions)) == single
    assert len(episode.trajectory.instructions) == episode.steps and not whole_episode.trajectory.instructions
    assert episode.tracks["subtasks_done"].last == 2


def test_every_frame_of_a_recorded_chain_keeps_its_instruction(tmp_path):
    episode = told("horizon-2")[1]
    env = Tabletop("horizon-2", cameras={})
    with DatasetWriter(
        tmp_path / "data", spec=env.spec, fps=20.0, camera_storage={}, robot_type="tabletop", extra={}
    ) as writer:
        writer.add(episode.trajectory, episode.instruction, source={"seed": 0})
    dataset = open_dataset(tmp_path / "data")
    tasks = dataset.rows("task_index", np.arange(episode.steps))
    assert [dataset.tasks[task] for task in tasks] == list(episode.trajectory.instructions)


def test_a_knocked_cube_is_fetched_and_the_record_says_so():
    plain, knocked = Tabletop("horizon-5", cameras={}), Tabletop("horizon-5-knocked", cameras={})
    for seed in range(4):
        plain.reset(seed), knocked.reset(seed)
        first, second = plain.scene, knocked.scene
        assert np.array_equal(first.objects, second.objects) and np.array_equal(first.goals, second.goals)
        pair = [horizon.Chain.of(scene).plan for scene in (first, second)]
        assert np.array_equal(pair[0][:, :2], pair[1][:, :2]) and np.isnan(pair[0][:, 2]).all()
        assert np.isfinite(pair[1][:, 2]).sum() >= 1
    episode = demonstrate("horizon-1-knocked", seed=2)
    assert episode.success
    assert episode.tracks["knocks"].last == episode.tracks["recovered"].last == 1
    assert episode.tracks["object_lifted"].high > 0.02


def test_a_knock_moves_the_cube_by_centimetres():
    env = Tabletop("horizon-1-knocked", cameras={})
    for seed in range(3):
        act = expert_in(env, seed)
        cube = horizon.Chain.of(env.scene).cube
        start = env.scene.objects[cube, :2]
        while not horizon.Chain.of(env.scene).knocked:
            env.step(act())
        for _ in range(15):
            env.step(np.array([0, 0, 0.5, -1], dtype=np.float32))
        assert 0.02 < np.linalg.norm(env.scene.objects[cube, :2] - start) < 0.2


def test_sub_tasks_count_in_their_order_only():
    """The cubes put where the second sub-task wants them do not count before the first is done."""
    env = Tabletop("horizon-2", cameras={})
    env.reset(0)
    scene, chain = env.scene, horizon.Chain.of(env.scene)
    (cube, region), (second, other) = chain.plan[:, :2].astype(int)

    def after(**places: int) -> Scene:
        objects = scene.objects.copy()
        for name, place in places.items():
            objects[{"first": cube, "second": second}[name], :2] = scene.goals[place, :2]
        return replace(scene, objects=objects)

    assert horizon.Chain.of(env.task.advance(scene, after(second=other))).done == 0
    once = env.task.advance(scene, after(first=region))
    assert horizon.Chain.of(once).done == 1 and not env.task.done(once)
    both = replace(after(first=region, second=other), notes=once.notes)
    assert env.task.done(env.task.advance(scene, both))
    held = replace(after(first=region), opening=0.4)
    assert horizon.Chain.of(env.task.advance(scene, held)).done == 0, "a held cube is not placed"


# Chores --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", chores.LENGTHS)
def test_chores_can_be_done_in_their_order(length):
    env, verbs = Tabletop(f"chores-{length}", cameras={}), Counter()
    for seed in range(8):
        env.reset(seed)
        plan = [chores.COMMANDS[int(row)] for row in env.scene.notes[1:]]
        assert len(plan) == length
        opened, moved, full = False, set(), set()
        for command in plan:
            verbs[command.verb] += 1
            opened = command.verb == "open" or (opened and command.verb != "close")
            assert command.thing is None or command.thing not in moved
            assert opened if command.thing and command.place == "drawer" else command.place not in full
            if command.thing:
                moved.add(command.thing)
                full |= {command.place} - {"drawer"}
    assert set(verbs) == {"open", "close", "press", "in", "to"}


def test_a_chore_is_said_when_it_is_due():
    env = Tabletop("chores-2", cameras={})
    act, said = expert_in(env, 0), []
    for _ in range(300):
        said.append(env.observe(images=False).instruction)
        if env.step(act()).success:
            break
    plan = [chores.COMMANDS[int(row)] for row in env.scene.notes[1:]]
    assert [parse(instruction) for instruction in dict.fromkeys(said)] == plan
    assert env.measure()["subtasks_done"] == 2


class Still(Actor):
    uses_images = False

    def reset(self, seed):
        pass

    def act(self, observation):
        return Chunk(actions=WAIT[None], execute=1)


@pytest.mark.parametrize(("task", "stage"), [("obstacle-50", "reach"), ("memory-1", "reach"), ("horizon-5", "reach")])
def test_failures_are_told_apart(task, stage):
    env = Tabletop(task, cameras={})
    episode = run_episode(env, Still(), Job(task=f"tabletop/{task}", seed=1, arm="still", max_steps=60))
    assert episode.outcome is Outcome.TIME_OUT and episode.failure.stage == stage


# State ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["obstacle-50-narrow", "memory-1", "horizon-5-knocked", "chores-2"])
def test_a_restored_run_replays_bit_identically(task):
    """Saved in the middle of what is remembered: while the lamp shines, after a knock, between sub-tasks."""
    env, fresh = Tabletop(task, cameras={}), Tabletop(task, cameras={})
    act = expert_in(env, 0)
    for moment in (5, 40, 60):
        for _ in range(moment):
            env.step(act())
        state, digest, actions = env.save(), env.digest(), []
        first = []
        for _ in range(70):
            actions.append(act())
            first.append((env.step(actions[-1]), env.object_state.tobytes(), env.measure()))
        for world in (fresh, env):
            world.restore(state)
            assert world.save() == state and world.digest() == digest
            assert [(world.step(a), world.object_state.tobytes(), world.measure()) for a in actions] == first
        env.restore(state)
