"""Marks on the pictures, made from where the hand and things are in the world (AVP, arXiv 2605.22183).

The label and the action come from the same numbers, so they cannot contradict each other; what they inherit is the
error of the calibration. What lies outside a picture has no mark on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from jaxtyping import Float64

from volar.core.calibration import Calibration
from volar.core.objects import NamedObject
from volar.core.thoughts import Mark
from volar.data.labels.course import Course
from volar.data.labels.keyframes import Story

PATH_POINTS, PATH_SECONDS = 5, 0.2  # of the hand's path ahead: how many, and how far apart
CORNERS: Final = np.array(list(product((-0.5, 0.5), repeat=3)))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All that marks are made from. cameras: those whose pictures are marked."""

    course: Course
    story: Story
    cameras: tuple[Calibration, ...]


Marker = Callable[[Scene, int], list[Mark]]


def next_point(scene: Scene, frame: int) -> list[Mark]:
    """Where the hand will be at the next keyframe; at the end, where it is."""
    coming = [keyframe for keyframe in scene.story.keyframes if keyframe.frame >= frame] or scene.story.keyframes[-1:]
    return _points(scene, coming[0].frame, order=0, done=False)


def ordered_points(scene: Scene, frame: int) -> list[Mark]:
    """Where the hand is at every keyframe, numbered; those behind us stay, as done."""
    return [
        mark
        for order, keyframe in enumerate(scene.story.keyframes, start=1)
        for mark in _points(scene, keyframe.frame, order=order, done=keyframe.frame < frame)
    ]


def regions(scene: Scene, frame: int) -> list[Mark]:
    """Boxes around where the present thing is taken and where it goes, or around what it is put at."""
    transfers = scene.story.transfers
    if not transfers:
        return []
    now = next((transfer for transfer in transfers if transfer.end >= frame), transfers[-1])
    return [
        *_boxes(scene, now.source, role="source", done=now.begin < frame),
        *_boxes(scene, now.destination, role="destination", done=now.end < frame),
    ]


def object_boxes(scene: Scene, frame: int) -> list[Mark]:
    """A box around every named object."""
    return [mark for name, thing in scene.course.objects[frame].items() for mark in _boxes(scene, thing, role=name)]


MARKERS: Final[dict[str, Marker]] = {
    "point": next_point, "order": ordered_points, "regions": regions, "objects": object_boxes,
}  # fmt: skip
SIMULATED: Final = ("objects",)  # markers that need to know the objects


def _points(scene: Scene, frame: int, *, order: int, done: bool) -> list[Mark]:
    found = []
    for camera in scene.cameras:
        uv = camera.project(scene.course.hand[frame][None]).uv[0]
        if ((uv >= 0) & (uv <= 1)).all():
            u, v = uv.tolist()
            found.append(Mark(camera=camera.camera, centre=(u, v), order=order, done=done))
    return found


def _boxes(scene: Scene, thing: NamedObject, *, role: str, done: bool = False) -> list[Mark]:
    found = []
    for camera in scene.cameras:
        box = box_on(camera, thing)
        if box is not None:
            (u, v), (width, height) = ((box[0] + box[1]) / 2).tolist(), (box[1] - box[0]).tolist()
            found.append(Mark(camera=camera.camera, centre=(u, v), size=(width, height), role=role, done=done))
    return found


def box_on(camera: Calibration, thing: NamedObject) -> Float64[np.ndarray, "2 2"] | None:
    """Upper left and lower right corner of the box around the thing on the picture; None where it is not on it."""
    seen = camera.project(thing.position + CORNERS * thing.size)
    if np.isnan(seen.uv).any():
        return None
    box = np.clip(np.stack([seen.uv.min(0), seen.uv.max(0)]), 0.0, 1.0)
    return box if (box[1] > box[0]).all() else None


def object_words(scene: Scene, frame: int) -> str:
    """Things and their boxes on the first camera's picture, in hundredths: "red cube [41 52 46 57], ..."."""
    said = []
    for name, thing in scene.course.objects[frame].items():
        box = box_on(scene.cameras[0], thing)
        if box is not None:
            said.append(f"{name} [{_hundredths(box.ravel().tolist())}]")
    return ", ".join(said)


def path_words(scene: Scene, frame: int) -> str:
    """Where the hand will be next on the first camera's picture, in hundredths: "[41 52] [43 55] ..."."""
    ahead = frame + np.arange(1, PATH_POINTS + 1) * scene.course.frames(PATH_SECONDS)
    points = scene.course.hand[np.minimum(ahead, len(scene.course.hand) - 1)]
    places = np.nan_to_num(scene.cameras[0].project(points).uv, nan=0.0)
    return " ".join(f"[{_hundredths(place)}]" for place in places.tolist())


def _hundredths(numbers: Sequence[float]) -> str:
    return " ".join(str(min(max(int(number * 100), 0), 99)) for number in numbers)
