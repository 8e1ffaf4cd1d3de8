"""Meta-World (arXiv 1910.10897): a Sawyer arm on a table, 50 tasks in MuJoCo, each with a scripted expert.

The 39 numbers of Meta-World's own observation hold object and goal positions; only the expert sees them.
"""

# MuJoCo's functions live in a compiled module that has no stubs.
# pyright: reportAttributeAccessIssue=false

import hashlib
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Float32, Float64, UInt8
from language_world import TASK_DESCRIPTIONS

from volar.core.calibration import CalibratedWorld, Calibration
from volar.core.errors import ConfigError, unknown_name
from volar.core.evidence import Mishap, Signs, Stage
from volar.core.robot import ActionSpec, Camera, Chunk, Env, Observation, PrivilegedActor, RobotSpec, Step
from volar.envs.cameras import declared_cameras
from volar.envs.mujoco_versions import OURS, Hazard, require_version
from volar.envs.offscreen import RENDER_RECIPE, Offscreen, mujoco, renderer_version, standing_cameras
from volar.envs.perturbation.world import Displacement, PerturbableWorld, outward
from volar.envs.shared_scenes import SCENES, SUFFIX, SharedScene, scene_of
from volar.envs.state_bytes import label_of, pack, unpack
from volar.envs.state_view import StateView

# After `offscreen`, which chooses how MuJoCo will draw before anything imports it.
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, ML10_V3, ML45_V3, MT10_V3  # noqa: F401  # isort: skip
from metaworld.policies import ENV_POLICY_MAP  # isort: skip

RATE_HZ = 80.0
HAZARDS = (
    *OURS,
    Hazard(
        first=(3, 9, 0), last=(3, 9, 99),
        broken="contacts differ, and its own experts succeed otherwise (peg-insert-side 4 of 5 instead of 5)",
    ),
    Hazard(first=(3, 17, 0), last=(99, 0, 0), broken="the models do not load (equalities are 12 numbers wide)"),
)  # fmt: skip
# True: the picture arrives upside down. "corner4" is the view known as "corner2 moved to [.75, .075, .7]".
CAMERAS = {
    "topview": False,
    "corner": True,
    "corner2": True,
    "corner3": True,
    "corner4": True,
    "behindGripper": False,
    "gripperPOV": False,
}
DEFAULT_CAMERAS = {"corner4": 112}
# set_xyz_action moves the mocap body that pulls the hand by action_scale = 1/100 m per unit; positive effort closes.
ACTION = ActionSpec(
    names=("x", "y", "z", "gripper"),
    units=("cm", "cm", "cm", "normalised"),
    low=(-1.0,) * 4,
    high=(1.0,) * 4,
    control="delta_position",
    rotation="none",
    gripper="positive_closes",
    frame="world",
    rate_hz=RATE_HZ,
)
# Metres of the hand in the world; opening of the fingers in units of 0.1 m, 0 closed to 1 open.
PROPRIOCEPTION = ("hand_x", "hand_y", "hand_z", "gripper_opening")
# What the numbers behind them mean differs from task to task; zeros for a second object that the task does not have.
OBJECT_STATE = (
    *(f"object_{number}_{part}" for number in (1, 2) for part in ("x", "y", "z", "qx", "qy", "qz", "qw")),
    "goal_x", "goal_y", "goal_z",
)  # fmt: skip
PHYSICS = mujoco.mjtState.mjSTATE_INTEGRATION
SAVED = (
    ":physics",
    ":body_pos",
    ":site_pos",
    ":observation",
    ":begun",
)  # beside the task's own variables, hence the colons
BACKGROUND = ("world", "tablelink", "RetainingWall")  # bodies
BOLTED = {"bin-picking": "the bin, which stays"}  # tasks whose objects cannot be moved alone
FIXED = 3e-3  # metres: ranges of a coordinate narrower than this only make it a range
PLAIN = (np.ndarray, np.generic, int, float, type(None))

SIGNS = Signs(
    stages=(
        Stage(name="reach", measure="hand_to_object", below=0.07, missed="never reached"),
        Stage(name="grasp", measure="object_moved", above=0.01, missed="missed grasp"),
        Stage(name="place", measure="object_to_goal", below=0.05, missed="wrong place", lost="wrong place"),
    ),
    mishaps=(Mishap(cause="wrong way", measure="object_to_goal", above=0.04, grew=True),),
)

warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high", module=r"metaworld\.policies")


class MetaWorld(PerturbableWorld, CalibratedWorld):
    """One of the 50 tasks, for example `faucet-open`. cameras: name of a camera -> side in pixels.

    Success is the simulator's momentary flag; score "at any step", since it goes off again on some tasks.
    There is no time limit of its own: whoever runs it sets one.
    """

    def __init__(self, task: str, *, cameras: Mapping[str, int] | None = None) -> None:
        self.task = _known(task)
        require_version("Meta-World", mujoco.__version__, HAZARDS, remedy="pip install 'volar[sim]'")
        declared = declared_cameras(cameras, default=DEFAULT_CAMERAS, known=CAMERAS, world="Meta-World")
        self._spec = RobotSpec(action=ACTION, cameras=declared, proprioception=PROPRIOCEPTION)
        self._scene = scene_of(self.task)
        self._env = _build(self.task, self._scene)
        self._ranges, self._hand = self._env._random_reset_space, np.array(self._env.hand_init_pos)
        self.pictures = Offscreen(self._env.model, declared)
        self._physics = np.empty(mujoco.mj_stateSize(self._env.model, PHYSICS))
        self._state: Float64[np.ndarray, " 39"] = np.zeros(39)
        self._begun = self._state[4:7]  # where the object was at first

    @staticmethod
    def tasks() -> tuple[str, ...]:
        """The benchmark's 50 task names, without the simulator's version suffix."""
        return tuple(sorted(name.removesuffix("-v3") for name in ALL_V3_ENVIRONMENTS))

    @staticmethod
    def shared_scenes() -> tuple[tuple[str, ...], ...]:
        """Further tasks, grouped: those of one group start from the same pictures, see `volar.envs.shared_scenes`."""
        return tuple(tuple(task + SUFFIX for task in scene.tasks) for scene in SCENES)

    @staticmethod
    def instructions(task: str) -> tuple[str, ...]:
        """What to tell a policy: the description of the package `language-world`."""
        return (TASK_DESCRIPTIONS[_known(task).removesuffix(SUFFIX)],)

    @staticmethod
    def expert() -> "MetaWorldExpert":
        return MetaWorldExpert()

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    @property
    def privileged_state(self) -> Float64[np.ndarray, " 39"]:
        """Meta-World's own observation, object and goal positions included: for experts and planners only."""
        return self._state

    @property
    def object_state_names(self) -> tuple[str, ...]:
        return OBJECT_STATE

    @property
    def object_state(self) -> Float32[np.ndarray, " n"]:
        """Poses of two objects and the goal: numbers 5 to 18 and 37 to 39; what lies between is the step before."""
        return np.append(self._state[4:18], self._state[36:39]).astype(np.float32)

    @property
    def model(self) -> Any:
        return self._env.model

    @property
    def background(self) -> tuple[int, ...]:
        model = self._env.model
        return tuple(geom for geom in range(model.ngeom) if model.body(model.geom_bodyid[geom]).name in BACKGROUND)

    def reset_displaced(self, seed: int, displacement: Displacement) -> None:
        if displacement.outward and self.task in BOLTED:
            raise ConfigError(f"{self.task} has no axis layout: what is placed would leave {BOLTED[self.task]}.")
        env = self._env
        env.hand_init_pos = self._hand + displacement.hand
        env._random_reset_space = self._ranges
        if displacement.outward:
            env.seed(seed)
            env.reset()
            env._random_reset_space = _moved(self._ranges, env._last_rand_vec, displacement.outward)
        env.seed(seed)
        env.reset()
        if self._scene is not None:
            for joint, position in self._scene.joints.items():
                env.data.joint(joint).qpos[:] = position
        # `reset` moves bodies of the model last of all; without this the first picture shows them where they were.
        mujoco.mj_forward(env.model, env.data)
        env._get_obs()  # the frame before the first one, which Meta-World stacks into its observation
        self._state = env._get_obs()
        self._begun = self._state[4:7].copy()

    def observe(self, *, images: bool = True) -> Observation:
        return Observation(
            images={camera.name: self._render(camera) for camera in self._spec.cameras} if images else {},
            proprioception=self._state[:4].astype(np.float32),
            instruction=self.instructions(self.task)[0],
            time=self._env.curr_path_length / RATE_HZ,
        )

    def step(self, action: Float32[np.ndarray, " a"]) -> Step:
        self._state, reward, _, _, info = self._env.step(ACTION.clip(action))
        return Step(success=bool(info["success"]), reward=float(reward), terminated=False)

    def measure(self) -> dict[str, float]:
        """Metres. object: what the task is about, which for doors, drawers and the like is the handle."""
        hand, thing, goal = self._state[:3], self._state[4:7], self._state[36:39]
        return {
            "hand_to_object": float(np.linalg.norm(hand - thing)),
            "object_moved": float(np.linalg.norm(thing - self._begun)),
            "object_to_goal": float(np.linalg.norm(thing - goal)),
        }

    def signs(self) -> Signs:
        return SIGNS

    def save(self) -> bytes:
        """Physics, what `reset` changed in the model, and the task's own variables."""
        env = self._env
        mujoco.mj_getState(env.model, env.data, self._physics, PHYSICS)
        own = {name: value for name, value in vars(env).items() if isinstance(value, PLAIN) and not _borrowed(value)}
        shared = (self._physics, env.model.body_pos, env.model.site_pos, self._state, self._begun)
        return pack(self.task, {**dict(zip(SAVED, shared, strict=True)), **own})

    def restore(self, state: bytes) -> None:
        task = label_of(state)
        if task != self.task:
            raise ConfigError(f"This state was saved in the task {task!r}, it cannot be restored in {self.task!r}.")
        env, values = self._env, unpack(state)
        if env._last_rand_vec is None:
            self.reset(0)  # lets the task create variables that point into the simulator's memory
        physics, env.model.body_pos[:], env.model.site_pos[:], self._state, self._begun = map(values.pop, SAVED)
        mujoco.mj_setState(env.model, env.data, physics, PHYSICS)
        mujoco.mj_forward(env.model, env.data)  # positions and contacts, which pictures and rewards read
        mujoco.mj_setState(env.model, env.data, physics, PHYSICS)  # the solver's warm start, which that touched
        vars(env).update(values)

    def digest(self) -> str:
        env = self._env
        mujoco.mj_getState(env.model, env.data, self._physics, PHYSICS)
        sha = hashlib.sha256()
        for part in (self._physics, env.model.body_pos, env.model.site_pos, self._state):
            sha.update(np.ascontiguousarray(part).tobytes())
        return sha.hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        return {
            "simulator": f"metaworld {version('metaworld')}",
            "mujoco": version("mujoco"),
            "renderer": renderer_version(),
            "render_recipe": RENDER_RECIPE,
            "frame_size": {camera.name: camera.height for camera in self._spec.cameras},
            "rotated_by_180_degrees": [camera.name for camera in self._spec.cameras if CAMERAS[camera.name]],
            "success": "the simulator's flag at any step",
            "control_rate_hz": RATE_HZ,
        }

    def close(self) -> None:
        self.pictures.close()
        self._env.close()

    def calibrations(self) -> dict[str, Calibration]:
        size = DEFAULT_CAMERAS["corner4"]
        found = standing_cameras(self._env.model, CAMERAS, self._spec.cameras, size=size)
        return {name: seen.upside_down() if CAMERAS[name] else seen for name, seen in found.items()}

    def _render(self, camera: Camera) -> UInt8[np.ndarray, "_ _ 3"]:
        image = self.pictures.render(self._env.data, camera)
        return np.ascontiguousarray(image[::-1, ::-1]) if CAMERAS[camera.name] else image


class MetaWorldState(StateView):
    """Meta-World without pictures: proprioception holds the poses of objects and goal."""

    world_class = MetaWorld


class MetaWorldExpert(PrivilegedActor):
    """The scripted policy that Meta-World ships for the task it is bound to: one action at a time."""

    privileged = ("simulator state: object and goal poses",)

    def reset(self, seed: int) -> None:
        pass

    def bind(self, env: Env) -> None:
        world = env.unwrapped
        if not isinstance(world, MetaWorld):
            raise ConfigError(f"Meta-World's expert acts in Meta-World only, not in {type(world).__name__}.")
        self._env, self._policy = world, ENV_POLICY_MAP[f"{world.task.removesuffix(SUFFIX)}-v3"]()

    def act(self, observation: Observation) -> Chunk:
        action = np.clip(self._policy.get_action(self._env.privileged_state), ACTION.low, ACTION.high)
        return Chunk(actions=action.astype(np.float32)[None], execute=1, evaluations=0)


def _known(task: str) -> str:
    name = task.removesuffix("-v3")
    known = {*MetaWorld.tasks(), *chain.from_iterable(MetaWorld.shared_scenes())}
    if name not in known:
        raise unknown_name("Meta-World task", task, known)
    return name


def _build(task: str, scene: SharedScene | None) -> Any:
    """Meta-World's environment with its goal observable and its randomness seeded: `reset(seed=)` ignores the seed."""
    env = ALL_V3_ENVIRONMENTS[f"{task.removesuffix(SUFFIX)}-v3"]()
    env._partially_observable = False
    vars(env).pop("sawyer_observation_space", None)  # cached for the partial observation
    env._freeze_rand_vec, env._set_task_called, env.seeded_rand_vec = False, True, True
    env.max_path_length = sys.maxsize
    if scene is not None:
        env._random_reset_space = Box(np.array(scene.low), np.array(scene.high), dtype=np.float64)
        for site in range(env.model.nsite):
            if env.model.site(site).name.startswith("goal"):
                env.model.site_rgba[site, 3] = 0.0
    return env


def _moved(ranges: Box, drawn: np.ndarray, metres: float) -> Box:
    """Ranges from which the same seed draws everything so much further out, seen from the range of the first thing
    that has one. What a task never moves along x or y stays."""
    free = ranges.high - ranges.low > FIXED
    first = 3 * (int(np.argmax(free)) // 3)
    there = slice(first, first + 2)
    way = outward(drawn[there], (ranges.low + ranges.high)[there] / 2, metres)
    shift = np.tile([*way, 0.0], len(drawn) // 3) * free
    return Box(ranges.low + shift, ranges.high + shift, dtype=np.float64)


def _borrowed(value: object) -> bool:
    """Whether an array lies in MuJoCo's memory: such variables follow the physics and must not be overwritten."""
    while isinstance(value, np.ndarray) and isinstance(value.base, np.ndarray):
        value = value.base
    return isinstance(value, np.ndarray) and type(value.base).__name__ == "PyCapsule"
