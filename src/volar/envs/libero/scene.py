"""What the simulator knows of a LIBERO scene: goals, where things are, and the boxes they are made of. For experts and
records only."""

# MuJoCo's functions live in a compiled module that has no stubs.
# pyright: reportAttributeAccessIssue=false

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from volar.core.objects import NamedObject, Workspace
from volar.envs.offscreen import mujoco

NUMBER = re.compile(r"_\d+$")
REACH, SIDEWAYS, UPWARDS = (0.25, 0.85), 0.45, 0.5  # metres, ahead of the base, to either side, above what carries all
FINGERTIP = 0.01  # metres that the point between the fingers is above what a hand stands on
ROBOT, GRIPPER = ("robot", "mount", "gripper"), "gripper"  # how names of their bodies begin


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One condition of a task file, for example `on akita_black_bowl_1 plate_1`; target is None for `open` and the
    like."""

    predicate: str
    subject: str
    target: str | None


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """Solid boxes in the world, metres. rotation: columns are a box's axes. body: number of the body it belongs to."""

    center: Float64[np.ndarray, "n 3"]
    rotation: Float64[np.ndarray, "n 3 3"]
    half: Float64[np.ndarray, "n 3"]
    body: np.ndarray

    def select(self, chosen: Bool[np.ndarray, " n"]) -> "Boxes":
        return Boxes(
            center=self.center[chosen], rotation=self.rotation[chosen], half=self.half[chosen], body=self.body[chosen]
        )

    def corners(self) -> Float64[np.ndarray, "n 8 3"]:
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T
        return self.center[:, None] + np.einsum("nij,nkj->nki", self.rotation, signs * self.half[:, None])

    def clearance(self, points: Float64[np.ndarray, "k 3"]) -> Float64[np.ndarray, " k"]:
        """Distance of each point to the nearest box, metres; 0 or less inside one."""
        local = np.einsum("nij,kni->knj", self.rotation, points[:, None] - self.center[None])
        outside = np.abs(local) - self.half
        distance = np.linalg.norm(np.maximum(outside, 0), axis=-1) + np.minimum(outside.max(-1), 0)
        return distance.min(1)


class Scene:
    """Read access to one built world. The order of `goals` is the task file's."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self.model, self.data = world.sim.model._model, world.sim.data._data
        states = [tuple(state) for state in world.parsed_problem["goal_state"]]
        self.goals = tuple(Goal(predicate=s[0], subject=s[1], target=s[2] if len(s) == 3 else None) for s in states)
        self._states = states
        self.met = (False,) * len(states)
        self._begun = np.zeros((len(states), 3))
        touching = (self.model.geom_contype != 0) | (self.model.geom_conaffinity != 0)
        names = [self.model.body(body).name for body in self.model.geom_bodyid]
        robot = [name.startswith(ROBOT) for name in names]
        plane = self.model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
        self._solid = [int(g) for g in np.flatnonzero(touching & ~plane) if not robot[g]]
        self._gripper = [int(g) for g in np.flatnonzero(touching) if names[g].startswith(GRIPPER)]

    def begin(self) -> None:
        """Remember where the goals' subjects are at the start of an episode."""
        self._begun = np.stack([self.position(goal.subject) for goal in self.goals])

    def judge(self) -> bool:
        """Whether all conditions hold, by LIBERO's own predicates."""
        self.met = tuple(bool(self._world._eval_predicate(state)) for state in self._states)
        return all(self.met)

    def position(self, name: str) -> Float64[np.ndarray, " 3"]:
        """Of an object's origin or of a region's centre, in the world, metres."""
        body = self._world.obj_body_id.get(name)
        return (self.data.site(name).xpos if body is None else self.data.xpos[body]).copy()

    @property
    def hand(self) -> Float64[np.ndarray, " 3"]:
        """The point between the fingertips."""
        return self.data.site_xpos[self._world.robots[0].eef_site_id].copy()

    @property
    def hand_rotation(self) -> Float64[np.ndarray, "3 3"]:
        """Columns: across the palm, along which the fingers open, and where they point."""
        return self.data.site_xmat[self._world.robots[0].eef_site_id].reshape(3, 3).copy()

    def named_objects(self) -> dict[str, NamedObject]:
        """Boxes around all things. A number is part of a name only where there are several of a kind."""
        names = [*self._world.objects_dict, *self._world.fixtures_dict]
        kinds = {name: NUMBER.sub("", name) for name in names}
        several = {kind for kind in kinds.values() if list(kinds.values()).count(kind) > 1}
        found = {}
        for name, kind in kinds.items():
            corners = self.boxes_of(name).corners().reshape(-1, 3)
            if len(corners):
                low, high = corners.min(0), corners.max(0)
                words = (name if kind in several else kind).replace("_", " ")
                found[words] = NamedObject(position=(low + high) / 2, size=high - low)
        return found

    def workspace(self) -> Workspace:
        base = self._world.robots[0].base_pos
        bottoms = [self.boxes_of(name).corners()[..., 2].min() for name in self._world.objects_dict]
        floor = float(np.median(bottoms)) + FINGERTIP  # they may not have fallen into place yet
        near, far = (float(base[0]) + ahead for ahead in REACH)
        return Workspace(
            low=(near, -SIDEWAYS, floor), high=(far, SIDEWAYS, floor + UPWARDS),
            directions="x points from the robot towards you, y right, z up",
        )  # fmt: skip

    def boxes(self, *, without: str | None = None) -> Boxes:
        """Everything solid but the robot, and but the thing named `without`."""
        own = set() if without is None else self._parts(without)
        return self._boxes([g for g in self._solid if self.model.geom_bodyid[g] not in own])

    def boxes_of(self, name: str) -> Boxes:
        """What a thing is made of."""
        parts = self._parts(name)
        return self._boxes([g for g in self._solid if self.model.geom_bodyid[g] in parts])

    def gripper(self) -> Boxes:
        """Hand and fingers, in the frame of the point between the fingertips."""
        here = self._boxes(self._gripper)
        hand, rotation = self.hand, self.hand_rotation
        return Boxes(
            center=(here.center - hand) @ rotation, rotation=rotation.T @ here.rotation, half=here.half, body=here.body
        )

    def support(self, spot: Float64[np.ndarray, " 2"], *, without: str) -> float:
        """Height of the highest solid thing at a spot seen from above."""
        return self._highest(spot[None], 0.01, without)

    def highest_on_way(
        self, start: Float64[np.ndarray, " 2"], end: Float64[np.ndarray, " 2"], beside: float, *, without: str | None
    ) -> float:
        """Height of the highest solid thing within `beside` metres of a straight way seen from above."""
        shares = np.linspace(0, 1, 2 + int(np.linalg.norm(end - start) / 0.02))[:, None]
        return self._highest(start + shares * (end - start), beside, without)

    def _highest(self, spots: np.ndarray, beside: float, without: str | None) -> float:
        corners = self.boxes(without=without).corners()
        low, high = corners.min(1), corners.max(1)
        gap = np.maximum(low[None, :, :2] - spots[:, None], spots[:, None] - high[None, :, :2]).max(-1)
        return float(high[(gap < beside).any(0), 2].max(initial=0.0))

    def _parts(self, name: str) -> set[int]:
        """Numbers of the bodies that a thing consists of, its drawers and doors included."""
        root = self._world.obj_body_id[name]
        parts = {root}
        for body in range(root + 1, self.model.nbody):
            if self.model.body_parentid[body] in parts:
                parts.add(body)
        return parts

    def _boxes(self, geoms: list[int]) -> Boxes:
        rotation = self.data.geom_xmat[geoms].reshape(-1, 3, 3)
        center = self.data.geom_xpos[geoms] + np.einsum("nij,nj->ni", rotation, self.model.geom_aabb[geoms, :3])
        return Boxes(
            center=center, rotation=rotation, half=self.model.geom_aabb[geoms, 3:], body=self.model.geom_bodyid[geoms]
        )

    def measure(self) -> dict[str, float]:
        number = next((k for k, met in enumerate(self.met) if not met), 0)
        position = self.position(self.goals[number].subject)
        return {
            "hand_to_object": float(np.linalg.norm(self.hand - position)),
            "object_moved": float(np.linalg.norm(position - self._begun[number])),
            "goals_open": float(len(self.met) - sum(self.met)),
        }

    def save(self) -> dict[str, np.ndarray]:
        return {"begun": self._begun, "met": np.array(self.met)}

    def restore(self, values: Mapping[str, Any]) -> None:
        self._begun, self.met = values["begun"], tuple(bool(met) for met in values["met"])
