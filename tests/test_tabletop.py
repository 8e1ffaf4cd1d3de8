"""tabletop: its tasks can be done, its traps are traps; the state view shows what it says it shows."""

from dataclasses import replace

import numpy as np
import pytest

from volar.backbones.state import State
from volar.core.errors import ConfigError
from volar.core.model import Batch
from volar.core.robot import Actor, Camera, Chunk, Job, Outcome
from volar.envs import make_env, make_expert
from volar.envs.rollout import run_episode
from volar.envs.tabletop.grammar import VERBS, Command, parse, sentences
from volar.envs.tabletop.tasks import TASKS, task_of
from volar.envs.tabletop.tasks.compose import COMMANDS, HELD_OUT, HELD_OUT_THINGS, TRAINED
from volar.envs.tabletop.workbench import NOVEL
from volar.envs.tabletop.world import Tabletop, TabletopState

EPISODES = 20
SMALL = ("fork", "precise", "push", "pick-place-red", "pick-place-green", "pick-place-blue")
NEW = (  # one of every verb, place and family
    "compose-put-red-cube-in-yellow-bowl", "compose-put-blue-ball-in-drawer", "compose-put-red-ball-left-of-blue-cube",
    "compose-push-green-cylinder-to-purple-region", "compose-put-red-cylinder-right-of-green-cube", "drawer-open",
    "drawer-close", "button-press", "attribute-largest", "attribute-left-of-red", "attribute-other-cube",
)  # fmt: skip
# The families that came later have tests of their own.
FIRST = (
    "fork",
    "precise",
    "push",
    "pick-place-red",
    "pick-place-green",
    "pick-place-blue",
)
STATE_VIEWS = ["tabletop-state/precise", "metaworld-state/peg-insert-side"]


def demonstrate(task, seed, noise=0.1):
    env, expert = make_env(task, cameras={}), make_expert(task)
    return run_episode(env, expert, Job(task=task, seed=seed, arm="expert", max_steps=200, noise=noise))


def course(env, actions):
    return [(env.step(action), env.observe(images=False).digest()) for action in actions]


@pytest.mark.parametrize("task", [f"tabletop/{task}" for task in FIRST])
def test_experts_succeed(task):
    episodes = [demonstrate(task, seed) for seed in range(EPISODES)]
    assert not [episode.error for episode in episodes if episode.error]
    assert sum(bool(episode.success) for episode in episodes) >= 0.95 * EPISODES
    assert all(20 < episode.steps < 150 for episode in episodes if episode.success)
    assert episodes[0].privileged == ("simulator state: object and goal poses",)


@pytest.mark.parametrize("task", FIRST)
def test_doing_nothing_fails(task):
    env = Tabletop(task, cameras={})
    for seed in range(5):
        env.reset(seed)
        idle = np.array([0, 0, 0, 1 if env.scene.opening == 0 else -1], dtype=np.float32)
        steps = [env.step(idle) for _ in range(30)]
        assert not any(step.success or step.terminated for step in steps)


@pytest.mark.parametrize("task", NEW)
def test_experts_of_commands_succeed(task):
    episodes = [demonstrate(f"tabletop/{task}", seed) for seed in range(3)]
    assert not [episode.error for episode in episodes if episode.error]
    assert all(episode.success for episode in episodes) and all(episode.steps > 15 for episode in episodes)


@pytest.mark.parametrize("task", [TRAINED[0], HELD_OUT_THINGS[0], "attribute-largest"])
def test_nothing_overlaps_at_the_start(task):
    env = Tabletop(task, cameras={})
    for seed in range(50):
        env.reset(seed)
        begun = env.scene
        assert env._data.contact.dist.min() > -1e-3  # metres
        env.step(np.array([0, 0, 0, -1], dtype=np.float32))
        assert np.abs(env.scene.objects - begun.objects).max() < 2e-3, "things jumped apart, or did not rest"
        assert not env.task.done(begun)


def test_fork_is_done_in_all_four_ways_from_the_same_start():
    env, expert = Tabletop("fork", cameras={}), Tabletop.expert()
    ways = set()
    for seed in range(24):
        env.reset(0)
        expert.reset(seed)
        expert.bind(env)
        passed = []
        while not env.step(expert.act(env.observe(images=False)).actions[0]).success:
            scene = env.scene
            beside = [pillar for pillar in scene.objects if abs(scene.hand[1] - pillar[1]) < 0.006]
            passed += ["left" if scene.hand[0] < pillar[0] else "right" for pillar in beside]
        ways.add((passed[0], passed[-1]))
    assert len(ways) == 4


def test_the_mean_of_forks_ways_knocks_the_pillar_over():
    env = Tabletop("fork", cameras={})
    for seed in range(5):
        env.reset(seed)
        ahead = np.array([0, 1, 0, 1], dtype=np.float32)
        outcomes = [env.step(ahead) for _ in range(30)]
        assert any(step.terminated for step in outcomes) and not any(step.success for step in outcomes)


@pytest.mark.parametrize(("off", "fits"), [(0.0, True), (0.004, False)])
def test_precise_is_precise_to_millimetres(off, fits):
    """The expert, told that the fixture stands 4 mm to the side, presses the peg onto its rim."""
    env = Tabletop("precise", cameras={})
    for seed in range(4):
        env.reset(seed)
        for _ in range(150):
            scene = env.scene
            told = replace(scene, goals=scene.goals + np.array([off, 0.0, 0.0]))
            step = env.step(np.clip(env.task.expert(told, (1.0, 1.0)), -1, 1).astype(np.float32))
            if step.success or step.terminated:
                break
        assert (step.success, step.terminated) == (fits, not fits)


def test_pick_place_wants_the_named_cube():
    env, expert = Tabletop("pick-place-red", cameras={}), Tabletop.expert()
    other = Tabletop("pick-place-blue", cameras={})
    env.reset(3), other.reset(3)
    expert.reset(3)
    expert.bind(env)
    done = []
    for _ in range(120):
        action = expert.act(env.observe(images=False)).actions[0]
        done.append((env.step(action).success, other.step(action).success))
    assert any(first for first, _ in done) and not any(second for _, second in done)


@pytest.mark.parametrize("task", ["fork", "precise", "pick-place-green", NEW[1], "drawer-open", "attribute-largest"])
def test_a_restored_run_replays_bit_identically(task):
    env, fresh = Tabletop(task, cameras={}), Tabletop(task, cameras={})
    actions = np.random.default_rng(0).uniform(-1, 1, (80, 4)).astype(np.float32)
    env.reset(4)
    course(env, actions[:20])
    state, digest = env.save(), env.digest()
    first = course(env, actions[20:])
    for world in (env, fresh):
        world.restore(state)
        assert world.save() == state and world.digest() == digest
        assert course(world, actions[20:]) == first


def test_a_state_of_another_task_is_refused():
    env = Tabletop("push", cameras={})
    with pytest.raises(ConfigError, match="saved in the task 'push'"):
        Tabletop("fork", cameras={}).restore(env.save())


def test_the_commanded_point_does_not_run_away_from_a_blocked_hand():
    env = Tabletop("push", cameras={})
    env.reset(0)
    up, down = np.array([0, 0, 1, 1], dtype=np.float32), np.array([0, 0, -1, 1], dtype=np.float32)
    for _ in range(60):
        env.step(down)
    low = env.scene.hand[2]
    for _ in range(6):
        env.step(up)
    assert env.scene.hand[2] - low > 0.025


# Words ----------------------------------------------------------------------------------------------------------------


def all_commands():
    for key, verb in VERBS.items():
        for thing in verb.things or [None]:
            yield from (Command(key, place, thing) for place in verb.places if place != thing)


def test_every_sentence_is_understood_as_what_it_says_and_as_nothing_else():
    meant = {}
    for command in all_commands():
        said = sentences(command)
        assert len(said) == len(set(said)) >= 3
        for sentence in said:
            assert meant.setdefault(sentence, command) == command
            assert parse(sentence) == command
    assert parse("  Put the RED cube into the blue bowl. ") == Command("in", "blue-bowl", "red-cube")


def test_every_sentence_of_a_task_leads_back_to_it():
    random = np.random.default_rng(0)
    for name, task in TASKS.items():
        if name.startswith(("compose-", "attribute-", "drawer-", "button-")):
            assert {task_of(str(sentence)) for sentence in random.choice(task.instructions, 3)} == {name}
    assert all(name == f"compose-{command.name}" for name, command in COMMANDS.items())
    with pytest.raises(ConfigError, match="another colour and shape"):
        task_of("put the red cube left of the red ball")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("inn", "drawer", "red-cube"), "Did you mean 'in'"),
        (("in", "blue-bwol", "red-cube"), "Did you mean 'blue-bowl'"),
        (("in", "drawer", "red-cubes"), "Did you mean 'red-cube'"),
        (("in", "drawer"), "takes a thing"),
        (("open", "drawer", "red-cube"), "takes no thing"),
        (("left", "red-cube", "red-cube"), "beside itself"),
    ],
)
def test_what_cannot_be_said_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        Command(*words)


def test_a_task_that_is_not_there_is_refused_with_the_nearest_and_not_with_all():
    with pytest.raises(ConfigError, match="Did you mean 'compose-put-red-cube-in-blue-bowl'") as refused:
        Tabletop("compose-put-red-cube-in-bleu-bowl", cameras={})
    assert "compose-put-red-cube-in-yellow-bowl" in str(refused.value) and len(str(refused.value)) < 1000
    assert str(refused.value).endswith("more.")


def test_a_sentence_of_no_grammar_is_refused_with_examples():
    with pytest.raises(ConfigError, match="put the THING in the PLACE"):
        parse("make me a sandwich")


def test_held_out_commands_are_made_of_what_training_shows():
    """Every word, every verb with its place; for known things the thing too with every verb."""
    shown = [COMMANDS[name] for name in TRAINED]
    assert set(TRAINED) | set(HELD_OUT) | set(HELD_OUT_THINGS) == set(COMMANDS)
    assert len(TRAINED) + len(HELD_OUT) + len(HELD_OUT_THINGS) == len(COMMANDS)
    words = {word for command in shown for word in TASKS[f"compose-{command.name}"].instructions[0].split()}
    sides = {(command.verb, command.place) for command in shown}
    used = {(command.verb, command.thing) for command in shown}
    for name in (*HELD_OUT, *HELD_OUT_THINGS):
        command = COMMANDS[name]
        assert set(TASKS[name].instructions[0].split()) <= words
        assert (command.verb, command.place) in sides or command.place in NOVEL
    assert {(COMMANDS[name].verb, COMMANDS[name].thing) for name in HELD_OUT} <= used
    assert {COMMANDS[name].thing for name in HELD_OUT_THINGS}.isdisjoint(command.thing for command in shown)


def test_the_same_picture_means_another_thing_when_told_otherwise():
    env, rows = Tabletop("attribute-largest", cameras={}), []
    others = [Tabletop(name, cameras={}) for name in TASKS if name.startswith("attribute-")]
    for seed in range(30):
        env.reset(seed)
        rows.append([])
        for other in others:
            other.reset(seed)
            assert np.array_equal(other.object_state, env.object_state)
            rows[-1].append(other.task.target(other.scene))
    looks = np.array(rows)
    assert all(len(set(row)) >= 2 for row in rows)
    assert all(len(set(column)) >= 4 for column in looks.T), "no thing is always the right one"


def test_parked_things_stay_where_they_are_and_are_not_shown():
    env = Tabletop("drawer-open", cameras={})
    env.reset(0)
    begun, state = env.scene, env.object_state
    for _ in range(40):
        env.step(np.array([0, 1, -1, 1], dtype=np.float32))
    parked = begun.objects[:, 0] > 1
    assert parked.sum() == 3 and np.array_equal(env.scene.objects[parked], begun.objects[parked])
    names = env.object_state_names
    assert len(names) == len(state)
    assert not state[[name.startswith("red_cylinder") for name in names]].any()
    assert state[names.index("drawer")] == pytest.approx(begun.joints[0]) and state[names.index("blue_cube_x")]


# The view of the state ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", STATE_VIEWS)
def test_state_view_shows_poses_and_says_so(task):
    env = make_env(task)
    env.reset(0)
    seen = env.observe()
    assert env.spec.cameras == () and seen.images == {}
    assert seen.proprioception.shape == (len(env.spec.proprioception),)
    names = env.spec.proprioception
    assert names[:4] == ("hand_x", "hand_y", "hand_z", "gripper_opening") and "goal_x" in names
    env.reset(1)
    moved = env.observe().proprioception != seen.proprioception
    assert {"object_1_x", "goal_y"} <= {name for name, changed in zip(names, moved, strict=True) if changed}
    assert "poses" in env.describe()["privileged"][0]
    env.close()


@pytest.mark.parametrize("task", STATE_VIEWS)
def test_every_episode_on_state_records_the_privilege(task):
    episode = demonstrate(task, 1)
    assert episode.success and "simulator state: object and goal poses in place of pictures" in episode.privileged


def test_state_view_has_the_worlds_tasks_and_seeds_and_pictures_only_where_asked_for():
    assert TabletopState.tasks() == Tabletop.tasks() == tuple(TASKS)
    view, world = make_env("tabletop-state/push"), make_env("tabletop/push", cameras={})
    view.reset(5), world.reset(5)
    assert view.digest() == world.digest()
    both = make_env("tabletop-state/push", cameras={"front": 16})
    both.reset(5)
    assert both.digest() == world.digest() and view.observe().images == {}
    seen = both.observe()
    assert seen.images["front"].shape == (16, 16, 3) and both.observe(images=False).images == {}
    np.testing.assert_array_equal(seen.proprioception, view.observe().proprioception)
    assert "beside pictures" in both.privileged[0] and "in place of pictures" in view.privileged[0]


class StraightAhead(Actor):
    def reset(self, seed):
        pass

    def act(self, observation):
        return Chunk(actions=np.array([[0, 1, 0, 1]], dtype=np.float32), execute=1)


def test_a_knocked_pillar_is_a_failure_in_the_record():
    env = make_env("tabletop-state/fork")
    episode = run_episode(env, StraightAhead(), Job(task="tabletop-state/fork", seed=0, arm="a", max_steps=100))
    assert episode.outcome is Outcome.TERMINATED and episode.success is False
    assert episode.privileged == env.privileged != ()


# The backbone ---------------------------------------------------------------------------------------------------------


def test_state_backbone_refuses_a_robot_with_cameras():
    with pytest.raises(ConfigError, match="reads proprioception and no pictures"):
        State(State.Config(), cameras=(Camera(name="front", height=8, width=8),), proprioception=4)
    with pytest.raises(ConfigError, match="multiple of heads=4"):
        State.Config(width=30)


def test_state_backbone_holds_numbers_within_its_clip():
    import torch

    backbone = State(State.Config(width=32), cameras=(), proprioception=3).eval()
    batch = [Batch(images={}, instructions=("go",), proprioception=torch.tensor([[0.1, x, 0.0]])) for x in (5.0, 1e6)]
    with torch.no_grad():
        near, far = (backbone.encode(each).tokens for each in batch)
    assert torch.equal(near, far)
