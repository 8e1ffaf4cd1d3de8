"""A hand that is led by where it shall be and how far it shall have turned, on robots that take either as a position or
as a change of it."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64
from scipy.spatial.transform import Rotation

from volar.core.errors import ConfigError
from volar.core.robot import Observation, RobotSpec

METRES, RADIANS = {"m": 1.0, "cm": 0.01, "mm": 0.001}, {"rad": 1.0, "deg": np.pi / 180}
PLACE, TURN = ("x", "y", "z"), ("rx", "ry", "rz")
HAND, FACING = ("hand_x", "hand_y", "hand_z"), ("hand_rx", "hand_ry", "hand_rz")
UNIT = re.compile(r"(?:(\d+(?:\.\d+)?) )?(\w+)")  # such as "m" or "5 cm"


class LedHand:
    """Of a robot that takes x, y, z and gripper, or also a turn about the three axes of its frame. Raises ConfigError
    for any other.

    turns: whether it can. How it shall face is kept in mind from the first look on, so that it is held though the arm
    gives way.
    """

    def __init__(self, spec: RobotSpec) -> None:
        action = self._action = spec.action
        self.turns = action.names == (*PLACE, *TURN, "gripper")
        self._absolute = action.control == "absolute_position"
        fits = action.control in (("delta_pose",) if self.turns else ("delta_position", "absolute_position"))
        if not fits or action.names != (*PLACE, *(TURN if self.turns else ()), "gripper"):
            raise ConfigError(
                f"Movement primitives lead a hand by x, y, z and gripper, as position or change of position, or by x, "
                f"y, z, rx, ry, rz and gripper as change of pose; this robot takes {action.names} as {action.control}."
            )
        if self.turns and (action.rotation != "axis_angle" or action.frame == "tool"):
            raise ConfigError(
                f"Turns must be axis times angle about the axes of the base or the world; this robot takes "
                f"{action.rotation} in the frame {action.frame!r}."
            )
        if action.gripper == "none":
            raise ConfigError("The sign of the gripper must be known; this robot says that it has none.")
        self._metres = _unit(action.units[:3], METRES, "Lengths")
        self._radians = _unit(action.units[3:6], RADIANS, "Turns") if self.turns else 1.0
        self._closes = 1.0 if action.gripper == "positive_closes" else -1.0
        wanted = (*HAND, *(FACING if self.turns else ()))
        if missing := [name for name in wanted if name not in spec.proprioception]:
            raise ConfigError(
                f"Proprioception must hold {', '.join(wanted)} in metres and radians; {', '.join(missing)} are missing."
            )
        self._places = [spec.proprioception.index(name) for name in HAND]
        self._facings = [spec.proprioception.index(name) for name in FACING] if self.turns else []
        self.reset()

    def reset(self) -> None:
        self._first: Rotation | None = None  # how it faced at the first look
        self._faces = Rotation.identity()
        self._before = self._since = 0.0  # radians that it shall have turned: up to `begin`, and since

    @property
    def rate_hz(self) -> float:
        return self._action.rate_hz

    def look(self, observation: Observation) -> Float64[np.ndarray, " 3"]:
        """Where the hand is, metres."""
        if self.turns:
            self._faces = Rotation.from_rotvec(observation.proprioception[self._facings].astype(np.float64))
            self._first = self._first or self._faces
        return observation.proprioception[self._places].astype(np.float64)

    def begin(self) -> None:
        """The next turns are beyond what was asked for last."""
        self._before, self._since = self.turned, 0.0

    @property
    def turned(self) -> float:
        """Radians about the vertical that it shall have turned since the first look, counter-clockwise from above."""
        return self._before + self._since

    def lead(
        self, hand: Float64[np.ndarray, " 3"], there: Float64[np.ndarray, " 3"], turned: float | None, *, closed: bool
    ) -> tuple[Float32[np.ndarray, " a"], Float64[np.ndarray, " 3"]]:
        """The action that leads from `hand` to `there`, and where the hand is taken to be after it. turned: the same
        as the property, but since `begin`; None leaves it as it was last meant. `look` comes first."""
        parts = [(there if self._absolute else there - hand) / self._metres]
        if self.turns:
            assert self._first is not None
            self._since = self._since if turned is None else turned
            shall = Rotation.from_euler("z", self.turned) * self._first
            parts.append((shall * self._faces.inv()).as_rotvec() / self._radians)
        sent = self._action.clip(np.concatenate([*parts, [self._closes if closed else -self._closes]]))
        if self.turns:
            self._faces = Rotation.from_rotvec(self._radians * sent[3:6].astype(np.float64)) * self._faces
        return sent, there if self._absolute else hand + self._metres * sent[:3]


def _unit(units: Sequence[str], known: dict[str, float], subject: str) -> float:
    """What one of a number is; all have the same. Raises ConfigError."""
    found = UNIT.fullmatch(units[0])
    if found is None or len(set(units)) != 1 or found[2] not in known:
        raise ConfigError(
            f"{subject} must all be in one of {', '.join(known)}, or so many of them; got {tuple(units)}."
        )
    return float(found[1] or 1.0) * known[found[2]]
