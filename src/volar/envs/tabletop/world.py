"""`tabletop`: our own manipulation tasks in MuJoCo, fast enough for two cores and with a task for every weakness.

The tasks themselves are in `tasks`; here they get a world, a view of its state, and one expert for all.
"""

# MuJoCo's functions live in a compiled module that has no stubs.
# pyright: reportAttributeAccessIssue=false

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from scipy.spatial.transform import Rotation

from volar.core.calibration import CalibratedWorld, Calibration
from volar.core.errors import ConfigError, unknown_name
from volar.core.evidence import Signs
from volar.core.objects import NamedObject, NamingWorld, Workspace
from volar.core.robot import ActionSpec, Chunk, Env, Observation, PrivilegedActor, RobotSpec, Step
from volar.envs.cameras import declared_cameras
from volar.envs.mujoco_versions import OURS, require_version
from volar.envs.offscreen import RENDER_RECIPE, Offscreen, mujoco, renderer_version, standing_cameras
from volar.envs.perturbation.world import Displacement, PerturbableWorld
from volar.envs.state_bytes import label_of, pack, unpack
from volar.envs.state_view import StateView
from volar.envs.tabletop.displacement import displaced
from volar.envs.tabletop.motions import STRIDE
from volar.envs.tabletop.scene import FINGER_RANGE, PARKED, TIMESTEP, scene_xml
from volar.envs.tabletop.task import Scene
from volar.envs.tabletop.tasks import TASKS

RATE_HZ = 20.0
SUBSTEPS = round(1 / (RATE_HZ * TIMESTEP))
LEASH = 0.02  # metres that the commanded point may be ahead of the hand, so that blocked motion does not wind up
LOW, HIGH = (-0.25, -0.25, 0.012), (0.25, 0.25, 0.25)  # metres: where the hand may be sent
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
# Metres of the hand in the world; opening of the fingers, 0 closed to 1 open.
PROPRIOCEPTION = ("hand_x", "hand_y", "hand_z", "gripper_opening")
CAMERAS = ("front", "top")
DEFAULT_CAMERAS = {"front": 96}
POSE = ("x", "y", "z", "qw", "qx", "qy", "qz")
PHYSICS = mujoco.mjtState.mjSTATE_INTEGRATION


class Tabletop(PerturbableWorld, NamingWorld, CalibratedWorld):
    """One task, for example `fork`. Success is momentary; score "at any step". Knocking a pillar of `fork` over, or
    away, terminates. There is no time limit of its own: whoever runs it sets one."""

    def __init__(self, task: str, *, cameras: Mapping[str, int] | None = None) -> None:
        if task not in TASKS:
            raise unknown_name("tabletop task", task, TASKS)
        require_version("tabletop", mujoco.__version__, OURS, remedy="pip install 'volar[sim]'")
        self.name, self.task = task, TASKS[task]
        declared = declared_cameras(cameras, default=DEFAULT_CAMERAS, known=CAMERAS, world="tabletop")
        self._spec = RobotSpec(action=ACTION, cameras=declared, proprioception=PROPRIOCEPTION)
        self._model = mujoco.MjModel.from_xml_string(scene_xml(self.task.family.things))
        self._data = mujoco.MjData(self._model)
        free = self._model.jnt_bodyid[self._model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]
        self._bodies = [*free.tolist(), *np.argsort(self._model.body_mocapid)[-self._model.nmocap :].tolist()]
        self._sizes = [self._size(body) for body in self._bodies]
        # MuJoCo's memory; asking it for such a view costs as much as reading it.
        self._qpos, self._ctrl = self._data.qpos, self._data.ctrl
        self._mocap, self._sensors = self._data.mocap_pos, self._data.sensordata
        self._free = 5 + 7 * int((self._model.jnt_type == mujoco.mjtJoint.mjJNT_FREE).sum())  # end of objects in qpos
        self._notes = np.zeros(0)
        self._physics = np.empty(mujoco.mj_stateSize(self._model, PHYSICS))
        self._now: Scene | None = None  # what `scene` gave since the world last moved
        self._begun = self.scene
        self.pictures = Offscreen(self._model, declared)

    @staticmethod
    def tasks() -> tuple[str, ...]:
        return tuple(TASKS)

    @staticmethod
    def shared_scenes() -> tuple[tuple[str, ...], ...]:
        """Tasks with the same layout: the same things in the same places for the same seed."""
        groups: dict[Any, list[str]] = {}
        for name, task in TASKS.items():
            groups.setdefault(task.layout, []).append(name)
        return tuple(tuple(names) for names in groups.values() if len(names) > 1)

    @staticmethod
    def instructions(task: str) -> tuple[str, ...]:
        if task not in TASKS:
            raise unknown_name("tabletop task", task, TASKS)
        return TASKS[task].instructions

    @staticmethod
    def expert() -> "TabletopExpert":
        return TabletopExpert()

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    @property
    def scene(self) -> Scene:
        """The simulator's state: for experts, planners and the state view only. Not to be written to."""
        if self._now is None:
            position = self._qpos.copy()
            self._now = Scene(
                hand=position[:3],
                opening=float(position[3] + position[4]) / (2 * FINGER_RANGE),
                objects=position[5 : self._free].reshape(-1, 7),
                goals=self._mocap.copy(),
                pressed=sum(self._sensors.tolist(), 0.0),
                joints=position[self._free :],
                notes=self._notes,
                time=self._time,
            )
        return self._now

    @property
    def _time(self) -> float:
        return round(self._data.time * RATE_HZ) / RATE_HZ

    @property
    def object_state_names(self) -> tuple[str, ...]:
        family = self.task.family
        poses = tuple(f"{name}_{part}" for name in family.objects for part in POSE)
        return (*poses, *(f"{name}_{axis}" for name in family.goals for axis in "xyz"), *family.joints)

    @property
    def object_state(self) -> Float32[np.ndarray, " n"]:
        scene, poses = self.scene, np.zeros((len(self.task.family.objects), len(POSE)))
        poses[: len(scene.objects)] = np.where(scene.objects[:, :1] >= PARKED, 0.0, scene.objects)
        # q and -q are the same rotation; show one of them.
        poses[:, 3:] *= np.where(poses[:, 3:4] < 0, -1.0, 1.0)
        return np.concatenate([poses.ravel(), scene.goals.ravel(), scene.joints]).astype(np.float32)

    def named_objects(self) -> dict[str, NamedObject]:
        """What lies on the table now, by the words of the instructions. Things that are parked are not there."""
        family, now = self.task.family, self.scene
        words = family.words or tuple(name.replace("_", " ") for name in (*family.objects, *family.goals))
        places = [*now.objects[:, :3], *now.goals]
        return {
            word: NamedObject(position=place, size=size)
            for word, place, size in zip(words, places, self._sizes, strict=True)
            if place[0] < PARKED
        }

    def workspace(self) -> Workspace:
        return Workspace(low=LOW, high=HIGH)

    def calibrations(self) -> dict[str, Calibration]:
        return standing_cameras(self._model, CAMERAS, self._spec.cameras, size=DEFAULT_CAMERAS["front"])

    def _size(self, body: int) -> Float64[np.ndarray, " 3"]:
        """Of the box around its geoms, as it was built."""
        model, first = self._model, self._model.body_geomadr[body]
        geoms = slice(first, first + model.body_geomnum[body])
        turns = Rotation.from_quat(np.roll(model.geom_quat[geoms], -1, axis=1)).as_matrix()
        centres = model.geom_pos[geoms] + (turns @ model.geom_aabb[geoms, :3, None])[..., 0]
        halves = (np.abs(turns) @ model.geom_aabb[geoms, 3:, None])[..., 0]
        return (centres + halves).max(axis=0) - (centres - halves).min(axis=0)

    @property
    def model(self) -> Any:
        return self._model

    @property
    def background(self) -> tuple[int, ...]:
        return (self._model.geom("table").id,)

    def reset_displaced(self, seed: int, displacement: Displacement) -> None:
        begun = self.task.layout(np.random.default_rng(seed))
        if displacement != Displacement():
            low, high = np.array(LOW), np.array(HIGH)
            begun = displaced(begun, displacement, target=self.task.target(begun), low=low, high=high)
        mujoco.mj_resetData(self._model, self._data)
        self._park(begun)
        opening = begun.opening * FINGER_RANGE
        self._data.qpos[:] = np.concatenate([begun.hand, [opening, opening], begun.objects.ravel(), begun.joints])
        self._data.mocap_pos[:] = begun.goals
        self._data.ctrl[:] = [*begun.hand, opening, opening]
        mujoco.mj_forward(self._model, self._data)
        self._begun, self._notes, self._now = begun, begun.notes, None

    def _park(self, begun: Scene) -> None:
        """What does not take part floats, for whatever rests somewhere costs contacts in every step."""
        bodies = self._model.jnt_bodyid[self._model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]
        self._model.body_gravcomp[bodies] = begun.objects[:, 0] >= PARKED

    def observe(self, *, images: bool = True) -> Observation:
        scene = self.scene
        if images and self._spec.cameras:
            # After a step bodies stand where they were a substep ago; a restored world must look like the saved one.
            mujoco.mj_kinematics(self._model, self._data)
            mujoco.mj_camlight(self._model, self._data)
        pictures = {camera.name: self.pictures.render(self._data, camera) for camera in self._spec.cameras if images}
        return Observation(
            images=pictures,
            proprioception=np.append(scene.hand, scene.opening).astype(np.float32),
            instruction=self.task.say(scene) if self.task.say else self.task.instructions[0],
            time=scene.time,
        )

    def measure(self) -> dict[str, float]:
        """Metres; of what the task is about and, as `others_moved`, of everything else on the table."""
        begun, now = self._begun, self.scene
        row = self.task.target(now)
        places, places_begun = now.objects[:, :3].tolist(), begun.objects[:, :3].tolist()
        moved = [math.dist(first, last) for first, last in zip(places_begun, places, strict=True)]
        values = {"left": self.task.left(now)}
        if row is not None:
            values["hand_to_object"] = math.dist(now.hand.tolist(), places[row])
            values["object_moved"] = moved.pop(row)
            values["object_lifted"] = places[row][2] - places_begun[row][2]
        values["others_moved"] = max(moved, default=0.0)
        for name, first, last in zip(self.task.family.joints, begun.joints, now.joints, strict=True):
            values[f"{name}_moved"] = float(abs(last - first))
        return {**values, **(self.task.facts(now) if self.task.facts else {})}

    def signs(self) -> Signs:
        return self.task.family.signs

    def step(self, action: Float32[np.ndarray, " a"]) -> Step:
        sent = np.asarray(action, dtype=np.float32).tolist()
        if len(sent) != ACTION.dim or not all(-1.0 <= number <= 1.0 for number in sent):
            sent = ACTION.clip(action).tolist()  # or refuses it
        self._command(sent)
        mujoco.mj_step(self._model, self._data, SUBSTEPS)
        self._now = None
        scene = self.scene
        if self.task.advance:
            scene = self.task.advance(self._begun, scene)
            self._notes, self._data.mocap_pos[:], self._now = scene.notes, scene.goals, None
            if scene.kicks.size:
                self._data.qvel[5 : 5 + 6 * len(scene.kicks)].reshape(-1, 6)[:, :3] += scene.kicks
        return Step(
            success=self.task.done(scene),
            reward=-self.task.left(scene),
            terminated=self.task.broken(self._begun, scene),
        )

    def _command(self, sent: Sequence[float]) -> None:
        """In Python's numbers: on so few, numpy costs a third of a step."""
        here, at = self._qpos[:3].tolist(), self._ctrl[:3].tolist()
        for axis, (hand, point, low, high) in enumerate(zip(here, at, LOW, HIGH, strict=True)):
            ahead = min(max(point + STRIDE * sent[axis], hand - LEASH), hand + LEASH)
            at[axis] = min(max(ahead, low), high)
        finger = FINGER_RANGE * (1 - sent[3]) / 2
        self._ctrl[:] = (*at, finger, finger)

    def save(self) -> bytes:
        mujoco.mj_getState(self._model, self._data, self._physics, PHYSICS)
        return pack(self.name, {"physics": self._physics, "begun": self._begun.objects, **self._remembered()})

    def _remembered(self) -> dict[str, np.ndarray]:
        """What the oldest families do not have, whose saved states must stay what they were."""
        beyond = {"begun_goals": self._begun.goals, "begun_joints": self._begun.joints, "notes": self._notes}
        return beyond if self._notes.size or self._begun.joints.size or len(self._begun.goals) > 1 else {}

    def restore(self, state: bytes) -> None:
        name = label_of(state)
        if name != self.name:
            raise ConfigError(f"This state was saved in the task {name!r}, it cannot be restored in {self.name!r}.")
        values = unpack(state)
        mujoco.mj_setState(self._model, self._data, values["physics"], PHYSICS)
        mujoco.mj_forward(self._model, self._data)  # positions, which pictures read
        mujoco.mj_setState(self._model, self._data, values["physics"], PHYSICS)  # the solver's warm start
        goals, joints, notes = (
            np.asarray(values.get(key, rest))
            for key, rest in (
                ("begun_goals", self._data.mocap_pos.copy()),
                ("begun_joints", np.zeros(0)),
                ("notes", np.zeros(0)),
            )
        )
        objects = np.asarray(values["begun"])
        self._begun = Scene(hand=np.zeros(3), opening=0.0, objects=objects, goals=goals, joints=joints)
        self._notes, self._now = notes, None
        self._park(self._begun)

    def digest(self) -> str:
        return hashlib.sha256(self.save()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        return {
            "simulator": f"volar tabletop {self.task.family.version}",
            "mujoco": mujoco.__version__,
            "renderer": renderer_version(),
            "render_recipe": RENDER_RECIPE,
            "frame_size": {camera.name: camera.height for camera in self._spec.cameras},
            "success": "the task's own condition at any step",
            "control_rate_hz": RATE_HZ,
        }

    def close(self) -> None:
        self.pictures.close()


class TabletopState(StateView):
    """`tabletop` without pictures: proprioception holds the poses of objects and goal."""

    world_class = Tabletop


class TabletopExpert(PrivilegedActor):
    """Scripted, closed-loop, one action at a time. Which of several ways it takes is drawn from the episode's seed and
    from nothing in the scene."""

    privileged = ("simulator state: object and goal poses",)

    def reset(self, seed: int) -> None:
        # A stream of its own: the seed alone also placed the objects.
        first, second = np.random.default_rng([seed, 0x77617973]).choice((-1.0, 1.0), 2)
        self._ways = (float(first), float(second))

    def bind(self, env: Env) -> None:
        world = env.unwrapped
        if not isinstance(world, Tabletop):
            raise ConfigError(f"The tabletop expert acts in tabletop only, not in {type(world).__name__}.")
        self._env = world
        remembered = ("what the task remembers: cue, plan, progress",) if world.task.advance else ()
        self.privileged = (*type(self).privileged, *remembered)

    def act(self, observation: Observation) -> Chunk:
        task = self._env.task
        action = task.expert(self._env.scene, self._ways)
        return Chunk(actions=np.clip(action, -1.0, 1.0).astype(np.float32)[None], execute=1, evaluations=0)
