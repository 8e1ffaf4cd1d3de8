"""All labels of one episode, of the kinds that were asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from volar.core.calibration import Calibration
from volar.core.errors import ConfigError, unknown_name
from volar.core.thoughts import Mark, Thought
from volar.data.labels.course import Course
from volar.data.labels.keyframes import tell
from volar.data.labels.marks import MARKERS, SIMULATED, Scene, object_words, path_words
from volar.data.labels.moves import Directions, motion_words, move_words
from volar.data.labels.stages import named, plan, subtasks

Segment = Callable[["Wanted", Scene], Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """marks: names in MARKERS. words: names in SEGMENTS. cameras: whose pictures are marked; words that name places on
    a picture speak of the first. directions: of the words for motion, None where none is asked for."""

    marks: tuple[str, ...]
    words: tuple[str, ...]
    cameras: tuple[Calibration, ...]
    directions: Directions | None

    def __post_init__(self) -> None:
        for kind, asked, known in (("marks", self.marks, MARKERS), ("words", self.words, SEGMENTS)):
            for name in asked:
                if name not in known:
                    raise unknown_name(f"kind of {kind}", name, known)
        if not (self.marks or self.words):
            raise ConfigError(
                f"Say which labels to make: marks of {', '.join(MARKERS)}, words of {', '.join(SEGMENTS)}."
            )
        if self.pictured and not self.cameras:
            raise ConfigError(f"{', '.join(self.pictured)} lie on a camera's picture; give calibrations of cameras.")
        if self.directed and self.directions is None:
            raise ConfigError(f"{', '.join(self.directed)} need to know what forward and left mean; give directions.")

    @property
    def pictured(self) -> tuple[str, ...]:
        """What of it needs a calibrated camera."""
        return (*self.marks, *(name for name in self.words if name in PICTURED))

    @property
    def directed(self) -> tuple[str, ...]:
        return tuple(name for name in self.words if name in DIRECTED)

    @property
    def simulated(self) -> tuple[str, ...]:
        """What of it needs somebody who knows the objects."""
        return tuple(name for name in (*self.marks, *self.words) if name in SIMULATED)


def _every(text: Callable[[Scene, int], str]) -> Segment:
    return lambda wanted, scene: [text(scene, frame) for frame in range(len(scene.course.hand))]


def _subtask(wanted: Wanted, scene: Scene) -> tuple[str, ...]:
    return subtasks(named(scene.story, scene.course.instructions))


def _plan(wanted: Wanted, scene: Scene) -> list[str]:
    return [plan(_subtask(wanted, scene))] * len(scene.course.hand)


def _directions(wanted: Wanted) -> Directions:
    assert wanted.directions is not None
    return wanted.directions


SEGMENTS: Final[dict[str, Segment]] = {
    "task": lambda wanted, scene: scene.course.instructions,
    "plan": _plan,
    "objects": _every(object_words),
    "subtask": _subtask,
    "move": lambda wanted, scene: move_words(scene.course, _directions(wanted)),
    "gripper": _every(path_words),
    "motion": lambda wanted, scene: motion_words(scene.course, _directions(wanted)),
}  # in the order in which a chain of thought says them
PICTURED: Final = ("objects", "gripper")
DIRECTED: Final = ("move", "motion")


def label(course: Course, wanted: Wanted) -> tuple[Thought, ...]:
    """The thought of every frame. Raises ConfigError where the objects are asked for and not known."""
    if wanted.simulated and not course.objects:
        raise ConfigError(f"{', '.join(wanted.simulated)} need objects, and nobody says where they are.")
    scene = Scene(course=course, story=tell(course), cameras=wanted.cameras)
    words = {name: SEGMENTS[name](wanted, scene) for name in SEGMENTS if name in wanted.words}
    thoughts = []
    for frame in range(len(course.hand)):
        marks: list[Mark] = []
        for name in wanted.marks:
            marks += MARKERS[name](scene, frame)
        thoughts.append(Thought(words={name: said[frame] for name, said in words.items()}, marks=tuple(marks)))
    return tuple(thoughts)
