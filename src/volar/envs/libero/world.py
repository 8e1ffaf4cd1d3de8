"""LIBERO (arXiv 2306.03310) and LIBERO-PRO (arXiv 2510.03827) as an Env: published initial states, settling, controller
and success; pictures by our own renderer, upright or as published data sets have them."""

# MuJoCo's functions live in a compiled module that has no stubs.
# pyright: reportAttributeAccessIssue=false

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from volar.core.calibration import CalibratedWorld, Calibration
from volar.core.errors import ConfigError, RobotFault
from volar.core.evidence import Signs, Stage
from volar.core.objects import NamedObject, NamingWorld, Workspace
from volar.core.robot import ActionSpec, Camera, Observation, RobotSpec, Step
from volar.envs.cameras import declared_cameras
from volar.envs.libero.expert import LiberoExpert, SceneEnv
from volar.envs.libero.scene import Scene
from volar.envs.libero.simulator import PACKAGE, build, files_of, initial_states, require_packages
from volar.envs.libero.tasks import FIRST_EVALUATION_SEED, INITIAL_STATES, find_task, suite_names, tasks_of
from volar.envs.offscreen import RENDER_RECIPE, Offscreen, mujoco, renderer_version, standing_cameras
from volar.envs.state_bytes import label_of, pack, unpack

RATE_HZ = 20.0
SUBSTEPS = 25  # of 2 ms
SETTLE_STEPS = 10  # published evaluations let objects fall into place before the first look
HOLD = np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)  # the dummy action of published evaluations: gripper open
# osc_pose.json of robosuite 1.4: one unit is 5 cm or 0.5 rad away from where the hand is now, about world axes.
ACTION = ActionSpec(
    names=("x", "y", "z", "rx", "ry", "rz", "gripper"),
    units=("5 cm", "5 cm", "5 cm", "0.5 rad", "0.5 rad", "0.5 rad", "normalised"),
    low=(-1.0,) * 7,
    high=(1.0,) * 7,
    control="delta_pose",
    rotation="axis_angle",
    gripper="positive_closes",
    frame="world",
    rate_hz=RATE_HZ,
)
# Metres in the world; axis times angle, of a quaternion whose sign is not made unique, as published; metres.
PROPRIOCEPTION = ("hand_x", "hand_y", "hand_z", "hand_rx", "hand_ry", "hand_rz", "finger_left", "finger_right")


@dataclass(frozen=True, kw_only=True)
class View:
    """A camera of the model. mirrored: left and right exchanged, as in published data sets, whose pictures are LIBERO's
    own (upside down) turned by 180 degrees."""

    camera: str
    mirrored: bool


VIEWS = {
    "agentview": View(camera="agentview", mirrored=False),
    "robot0_eye_in_hand": View(camera="robot0_eye_in_hand", mirrored=False),
    # Published names: HuggingFaceVLA/libero has image and image2, physical-intelligence/libero image and wrist_image.
    "image": View(camera="agentview", mirrored=True),
    "image2": View(camera="robot0_eye_in_hand", mirrored=True),
    "wrist_image": View(camera="robot0_eye_in_hand", mirrored=True),
}
DEFAULT_CAMERAS = {"agentview": 128, "robot0_eye_in_hand": 128}
PHYSICS = mujoco.mjtState.mjSTATE_INTEGRATION
CONTROLLER = ("goal_pos", "goal_ori", "ee_pos", "ee_ori_mat", "initial_joint")
COLLISION, HIDDEN = 0, 3  # groups of shapes; the renderer leaves the second out

SIGNS = Signs(
    stages=(
        Stage(name="reach", measure="hand_to_object", below=0.06, missed="never reached"),
        Stage(name="move", measure="object_moved", above=0.02, missed="missed grasp"),
        Stage(name="goals", measure="goals_open", below=0.5, missed="goal not met"),
    ),
)


def published_robot(cameras: Sequence[str], *, side: int) -> RobotSpec:
    """What the numbers of data sets such as HuggingFaceVLA/libero mean, and what a policy trained on them must meet
    here. cameras: their feature names without `observation.images.`; side: of their pictures, in pixels."""
    return _robot(dict.fromkeys(cameras, side))


def axis_angle(quaternion: Float64[np.ndarray, " 4"]) -> Float64[np.ndarray, " 3"]:
    """Of (w, x, y, z), angle from 0 to 2 pi: q and -q give different numbers, which published policies have learned."""
    w = float(np.clip(quaternion[0], -1, 1))
    sine = np.sqrt(1 - w * w)
    return np.zeros(3) if np.isclose(sine, 0, atol=1e-9) else quaternion[1:] * 2 * np.arccos(w) / sine


class Libero(SceneEnv, NamingWorld, CalibratedWorld):
    """One task, for example `goal/7-turn_on_the_stove`. cameras: name in VIEWS -> side in pixels.

    From seed 1000 on, where evaluations begin, episode k starts from the published initial state k mod 50; what
    those leave open (where fixtures stand, within the centimetres that the task file allows) is drawn from k. Below,
    where demonstrations begin, LIBERO's own sampler places everything by k: nobody trains on what is judged.
    Success is the task file's goal at any step.
    There is no time limit of its own: `volar.envs.libero.tasks.Task.horizon` is the published one.
    """

    def __init__(self, task: str, *, cameras: Mapping[str, int] | None = None) -> None:
        self._task = find_task(task)
        self._spec = _robot(DEFAULT_CAMERAS if cameras is None else cameras)
        require_packages()
        problem, states = files_of(self._task)
        self._starts = initial_states(states)
        with _numpy_seeded(0):
            self._world = build(problem)
            _reset(self._world)  # hides the marks of the gripper, which a restored world must not show either
        self._model, self._data = self._world.sim.model._model, self._world.sim.data._data
        self._model.geom_group[self._model.geom_group == COLLISION] = HIDDEN
        self.pictures = Offscreen(self._model, self._spec.cameras)
        self._physics = np.empty(mujoco.mj_stateSize(self._model, PHYSICS))
        self.scene = Scene(self._world)
        self._steps = 0

    @staticmethod
    def tasks() -> tuple[str, ...]:
        """All tasks of LIBERO's five suites and of the LIBERO-PRO variants, suite by suite."""
        return tuple(task.name for suite in suite_names() for task in tasks_of(suite))

    @staticmethod
    def instructions(task: str) -> tuple[str, ...]:
        return (find_task(task).instruction,)

    @staticmethod
    def expert() -> LiberoExpert:
        return LiberoExpert()

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    @property
    def task(self) -> str:
        return self._task.name

    def reset(self, seed: int) -> None:
        world, robot = self._world, self._world.robots[0]
        with _numpy_seeded(seed):
            _reset(world)
        robot.gripper.current_action = np.zeros(robot.gripper.dof)  # which only a new model would forget
        if seed >= FIRST_EVALUATION_SEED:
            world.sim.set_state_from_flattened(self._starts[seed % len(self._starts)])
        world.sim.forward()
        world._post_process()
        for _ in range(SETTLE_STEPS):
            self._advance(HOLD)
        self._steps = 0
        self.scene.begin()

    def observe(self, *, images: bool = True) -> Observation:
        return Observation(
            images={camera.name: self._render(camera) for camera in self._spec.cameras} if images else {},
            proprioception=self._proprioception(),
            instruction=self._task.instruction,
            time=self._steps / RATE_HZ,
        )

    def step(self, action: Float32[np.ndarray, " a"]) -> Step:
        success = self._advance(ACTION.clip(action))
        self._steps += 1
        return Step(success=success, reward=float(success), terminated=False)

    def measure(self) -> dict[str, float]:
        """Metres, of the object that the first open goal is about. goals_open: conditions of the goal not yet met."""
        return self.scene.measure()

    def signs(self) -> Signs:
        return SIGNS

    def named_objects(self) -> dict[str, NamedObject]:
        """Things and fixtures as the task file calls them, such as `akita black bowl 1`, `basket`; boxes around them as
        they stand now."""
        return self.scene.named_objects()

    def workspace(self) -> Workspace:
        """What the arm reaches in front of its base, from just above what things stand on."""
        return self.scene.workspace()

    def calibrations(self) -> dict[str, Calibration]:
        """Of the upright view from in front; a mirrored picture is none that a pinhole makes."""
        return standing_cameras(self._model, ["agentview"], self._spec.cameras, size=DEFAULT_CAMERAS["agentview"])

    def save(self) -> bytes:
        """Physics, where fixtures stand, and what the arm's controller and the gripper keep between steps."""
        mujoco.mj_getState(self._model, self._data, self._physics, PHYSICS)
        robot = self._world.robots[0]
        kept = {name: np.array(vars(robot.controller)[name]) for name in CONTROLLER}
        return pack(self.task, {
            "physics": self._physics, "body_pos": self._model.body_pos, "body_quat": self._model.body_quat,
            "gripper": robot.gripper.current_action, "steps": self._steps, **self.scene.save(), **kept,
        })  # fmt: skip

    def restore(self, state: bytes) -> None:
        task = label_of(state)
        if task != self.task:
            raise ConfigError(f"This state was saved in the task {task!r}, it cannot be restored in {self.task!r}.")
        values: dict[str, Any] = unpack(state)
        robot = self._world.robots[0]
        self._model.body_pos[:], self._model.body_quat[:] = values.pop("body_pos"), values.pop("body_quat")
        physics = values.pop("physics")
        mujoco.mj_setState(self._model, self._data, physics, PHYSICS)
        mujoco.mj_forward(self._model, self._data)  # positions, which pictures read
        mujoco.mj_setState(self._model, self._data, physics, PHYSICS)  # the solver's warm start, which that touched
        robot.gripper.current_action, self._steps = values.pop("gripper"), values.pop("steps")
        vars(robot.controller).update({name: values.pop(name) for name in CONTROLLER}, new_update=True)
        self.scene.restore(values)
        self._world._post_process()

    def digest(self) -> str:
        mujoco.mj_getState(self._model, self._data, self._physics, PHYSICS)
        sha = hashlib.sha256()
        for part in (self._physics, self._model.body_pos, self._model.body_quat):
            sha.update(np.ascontiguousarray(part).tobytes())
        return sha.hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        return {
            "simulator": f"{PACKAGE} {version(PACKAGE)}, robosuite {version('robosuite')}",
            "mujoco": version("mujoco"),
            "renderer": renderer_version(),
            "render_recipe": RENDER_RECIPE,
            "frame_size": {camera.name: camera.height for camera in self._spec.cameras},
            "mirrored_as_published": [camera.name for camera in self._spec.cameras if VIEWS[camera.name].mirrored],
            "initial_states": f"seeds from {FIRST_EVALUATION_SEED}: published, seed modulo {INITIAL_STATES}, fixtures "
            "drawn from the seed; below: drawn from the seed by LIBERO's sampler",
            "settle_steps": SETTLE_STEPS,
            "success": "the task file's goal at any step",
            "control_rate_hz": RATE_HZ,
        }

    def close(self) -> None:
        self.pictures.close()
        self._world.close()

    def _advance(self, action: Float32[np.ndarray, " 7"]) -> bool:
        """robosuite's control step without its observations, which cost time and nobody reads here."""
        world = self._world
        for substep in range(SUBSTEPS):
            world.sim.forward()
            world._pre_action(action, policy_step=substep == 0)
            world.sim.step()
        world._post_process()
        success = self.scene.judge()
        if not np.isfinite(self._data.qpos).all():
            raise RobotFault(f"The simulation of {self.task} left the numbers after {self._steps} steps.")
        # A step ends with the positions from before its last 2 ms; contacts and warm start stay as they are.
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        return success

    def _proprioception(self) -> Float32[np.ndarray, " 8"]:
        robot, data = self._world.robots[0], self._data
        hand = data.body(robot.robot_model.eef_name).xquat
        return np.concatenate([
            data.site_xpos[robot.eef_site_id], axis_angle(hand), data.qpos[robot._ref_gripper_joint_pos_indexes],
        ]).astype(np.float32)  # fmt: skip

    def _render(self, camera: Camera) -> UInt8[np.ndarray, "_ _ 3"]:
        view = VIEWS[camera.name]
        image = self.pictures.render(self._data, replace(camera, name=view.camera))
        return np.ascontiguousarray(image[:, ::-1]) if view.mirrored else image


def _robot(sizes: Mapping[str, int]) -> RobotSpec:
    declared = declared_cameras(sizes, default={}, known=VIEWS, world="LIBERO")
    return RobotSpec(action=ACTION, cameras=declared, proprioception=PROPRIOCEPTION)


def _reset(world: Any) -> None:
    """robosuite's reset. A placement that it cannot find is drawn again.

    Fixtures go back to where a newly compiled model has them: the sampler adds what lies on or in them to that place,
    and would add the last episode's place once more."""
    from robosuite.utils.errors import RandomizationError

    model = world.sim.model._model
    for name, fixture in world.fixtures_dict.items():
        described = fixture.get_obj()
        body = world.obj_body_id[name]
        model.body_pos[body] = np.array(described.get("pos", "0 0 0").split(), dtype=float)
        model.body_quat[body] = np.array(described.get("quat", "1 0 0 0").split(), dtype=float)
    for _ in range(20):
        try:
            world.reset()
        except RandomizationError:
            continue
        return
    raise RobotFault("LIBERO could not place the objects of this task in 20 attempts.")


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """numpy's global generator, from which robosuite draws, seeded for a while."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)
