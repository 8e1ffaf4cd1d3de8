"""What labels are made from: where the hand was, when the gripper closed, and, where a simulator says it, what stood
where. Nothing is guessed: a data set that does not say which numbers these are is asked.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial.transform import Rotation

from volar.core.errors import ConfigError, unknown_name
from volar.core.objects import NamedObject
from volar.core.robot import ActionSpec
from volar.data import layout
from volar.data.dataset import Dataset, require_feature
from volar.data.events import gripper_events
from volar.data.inspection.subject import dimension_names

HAND = ("hand_x", "hand_y", "hand_z")  # what volar's environments call it
TURN = ("hand_rx", "hand_ry", "hand_rz")  # axis times angle, radians
FLICKER = 0.1  # seconds; a gripper that changes sides and back faster was only correcting itself


@dataclass(frozen=True, kw_only=True)
class Course:
    """One episode. hand: metres in the world. turn: of the hand, None where the data do not say. closed: the gripper is
    told to hold; all False for a robot without one. objects: of every frame, empty where nobody says. exact: their
    places are good enough to tell that one is shoved, which those of a detector are not while the hand hides it."""

    fps: float
    instructions: tuple[str, ...]
    hand: Float64[np.ndarray, "t 3"]
    turn: Rotation | None
    closed: Bool[np.ndarray, " t"]
    objects: tuple[Mapping[str, NamedObject], ...] = ()
    exact: bool = True

    def frames(self, seconds: float) -> int:
        """That time in frames, at least one."""
        return max(1, round(seconds * self.fps))


class CourseReader:
    """Reads the courses of a data set's episodes. robot: what their actions mean. hand: names of the three numbers of
    the state that are the hand's place in metres. Raises ConfigError if those or its gripper are not there."""

    def __init__(self, dataset: Dataset, robot: ActionSpec, *, hand: Sequence[str] = HAND) -> None:
        self._dataset, self._robot = dataset, robot
        gripper_dimension(robot)
        require_feature(dataset, layout.STATE)
        names = dimension_names(dataset.features[layout.STATE])
        if len(hand) != 3:
            raise ConfigError(f"The hand's place is three numbers of the state, got {list(hand)}.")
        for name in hand:
            if name not in names:
                raise unknown_name(
                    f"number of the state of {dataset.root} (say with --hand which are x y z)", name, names
                )
        self._hand = [names.index(name) for name in hand]
        self._turn = [names.index(name) for name in TURN] if set(TURN) <= set(names) else None

    def read(self, episode: int, objects: Sequence[Mapping[str, NamedObject]] = (), *, exact: bool = True) -> Course:
        """objects: of every frame of the episode, from whoever knows them. exact: see `Course`."""
        where = self._dataset.episodes[episode]
        rows = np.arange(where.start, where.stop)
        state = self._dataset.rows(layout.STATE, rows).astype(np.float64)
        actions = self._dataset.rows(layout.ACTION, rows).astype(np.float64)
        tasks = self._dataset.rows("task_index", rows).tolist()
        if objects and len(objects) != len(rows):
            raise ConfigError(f"Episode {episode} has {len(rows)} frames, objects were given of {len(objects)}.")
        return Course(
            fps=self._dataset.fps,
            instructions=tuple(self._dataset.tasks[task] for task in tasks),
            hand=state[:, self._hand],
            turn=None if self._turn is None else Rotation.from_rotvec(state[:, self._turn]),
            closed=gripper_closed(actions, self._robot, fps=self._dataset.fps),
            objects=tuple(objects),
            exact=exact,
        )


def gripper_dimension(robot: ActionSpec) -> int | None:
    """Which number of an action is the gripper's, None for a robot without one. Raises ConfigError where the names do
    not tell, or tell of several hands."""
    if robot.gripper == "none":
        return None
    found = [d for d, name in enumerate(robot.names) if re.search("grip|jaw", name, re.IGNORECASE)]
    if len(found) != 1:
        raise ConfigError(
            f"Labels are of one hand, whose gripper is named so among the actions; {len(found)} of "
            f"{', '.join(robot.names)} are."
        )
    return found[0]


def gripper_closed(
    actions: Float64[np.ndarray, "t a"], robot: ActionSpec, *, fps: float
) -> Bool[np.ndarray, " t"]:  # fmt: skip
    """Whether the gripper is told to hold, in every frame; never for a robot without one."""
    low, high = np.array(robot.low), np.array(robot.high)
    gripper = gripper_dimension(robot)
    if gripper is None:
        return np.zeros(len(actions), np.bool_)
    above = bool(actions[0, gripper] > (low + high)[gripper] / 2)
    closed = np.full(len(actions), above == (robot.gripper == "positive_closes"))
    for event in gripper_events(actions, low, high, robot.names, robot.gripper):
        closed[event.frame :] = event.kind == "closes"
    return steady(closed, max(1, round(FLICKER * fps)))


def steady(flags: Bool[np.ndarray, " t"], shortest: int) -> Bool[np.ndarray, " t"]:
    """Without stretches shorter than so many frames; the first and the last may be as short as they are."""
    flags = flags.copy()
    edges = np.flatnonzero(np.diff(flags.astype(np.int8))) + 1
    for start, stop in itertools.pairwise(edges):
        if stop - start < shortest and flags[start] != flags[start - 1]:
            flags[start:stop] = flags[start - 1]
    return flags
