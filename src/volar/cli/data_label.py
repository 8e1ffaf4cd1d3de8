"""`volar data label DATA --out OUT`: a copy whose frames say what a policy is to tell itself."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from volar.cli.output import Output
from volar.cli.pairs import read_pairs
from volar.cli.rewriting import Target, summary, text
from volar.core.calibration import Calibration, read_calibrations
from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import RobotSpec

if TYPE_CHECKING:
    from volar.core.objects import NamedObject
    from volar.core.thoughts import Thought
    from volar.data.dataset import Dataset
    from volar.data.labels.episode import Wanted
    from volar.data.labels.moves import Directions
    from volar.data.rewrite import Rewritten
    from volar.envs.replay import Replay

CALIBRATIONS = "calibrations"  # in the facts of a data set: of every camera that stands still
SIMULATOR, DETECTOR = "simulator", "detector"
PRIVILEGED = "simulator state: names, places and sizes of objects"


@dataclass(frozen=True, kw_only=True)
class Label(Target):
    """Write a copy of DATA with marks on the pictures and words for every frame, in LeRobot's language columns.

    They are made from what the robot did, without annotators or models. Goes on where it was interrupted."""

    data: tyro.conf.Positional[str]
    """a data set of any format that volar reads"""
    out: Path
    """folder of the new data set"""
    marks: tuple[str, ...] = ()
    """point: where the hand is at the next keyframe; order: at every keyframe, numbered; regions: what is taken, and
    where it goes; objects: a box around each"""
    words: tuple[str, ...] = ()
    """of task, plan, objects, subtask, move (ECoT's thirteen), gripper (its path on the picture), motion (in cm)"""
    cameras: tuple[str, ...] = ()
    """whose pictures are marked, also such as the data set has no pictures of; by default all of its own that are
    calibrated, and without any the first that is"""
    calibration: str | None = None
    """a JSON list of calibrations, or `simulator` to ask the world that the episodes come from; by default what was
    recorded with the data set"""
    objects: Literal["unknown", "simulator", "detector"] = "unknown"
    """who says by name what is grasped, pushed and where it goes. simulator: every episode is replayed; recorded as
    privileged. detector: boxes on the pictures of calibrated cameras"""
    objects_options: tuple[str, ...] = ()
    """key=value of the detector, as volar language write takes them: names='["red cube"]' detector=open-vocabulary
    weights=./owlv2, or detector=endpoint with what it takes; every=10 looks at one frame in ten"""
    hand: tuple[str, ...] = ("hand_x", "hand_y", "hand_z")
    """which numbers of the state are the hand's place, metres"""
    directions: str | None = None
    """what forward and left mean: `robot` (x forward, y left), or as seen by a camera; by default by the first camera,
    or the robot's where its frame is its base"""


def write_labels(command: Label, *, progress: bool = True) -> "Rewritten":
    """Raises ConfigError before anything is written."""
    from volar.data.formats import open_dataset
    from volar.data.labels.course import CourseReader
    from volar.data.labels.episode import label
    from volar.data.thoughts import write_thoughts
    from volar.envs.replay import Replay

    if (command.objects == DETECTOR) != bool(command.objects_options):
        raise ConfigError("--objects detector and --objects-options go together: name both of them or neither.")
    dataset, choices = open_dataset(command.data), command.choices()
    if (robot := dataset.spec or choices.robot) is None:
        raise ConfigError(
            f"{dataset.root} does not say what its numbers mean, so no gripper can be read off them. Say it with "
            f"--robot FILE, a RobotSpec as JSON or a recipe with one."
        )
    with Replay() as replay:
        wanted = _wanted(command, dataset, robot, replay)
        reader = CourseReader(dataset, robot.action, hand=command.hand)
        objects = _objects(command, dataset, replay)

        def thoughts(episode: int) -> "Sequence[Thought]":
            return label(reader.read(episode, objects(episode), exact=command.objects == SIMULATOR), wanted)

        thoughts(0)  # whatever is wrong with the choices shows before a file is made
        facts = _facts(command, wanted)
        return write_thoughts(
            dataset, thoughts, command.out, facts=facts, choices=choices, progress=progress
        )  # fmt: skip


def _wanted(command: Label, dataset: "Dataset", robot: RobotSpec, replay: "Replay") -> "Wanted":
    from volar.data.labels.episode import DIRECTED, PICTURED, Wanted

    needs_camera = command.marks or set(command.words) & set(PICTURED)
    directed = set(command.words) & set(DIRECTED)
    known = _calibrations(command, dataset, replay) if needs_camera or directed else {}
    cameras = _cameras(command, dataset, known) if needs_camera else ()
    directions = _directions(command, dataset, robot, known) if directed else None
    return Wanted(marks=command.marks, words=command.words, cameras=cameras, directions=directions)


def _calibrations(command: Label, dataset: "Dataset", replay: "Replay") -> dict[str, Calibration]:
    """Of every camera that is known."""
    if command.calibration == SIMULATOR:
        return dict(replay.calibrations(_task(dataset, 0)))
    if command.calibration is not None:
        return read_calibrations(Path(command.calibration))
    recorded = map(Calibration.from_json, dataset.facts.get(CALIBRATIONS, ()))
    return {calibration.camera: calibration for calibration in recorded}


def _cameras(command: Label, dataset: "Dataset", known: Mapping[str, Calibration]) -> tuple[Calibration, ...]:
    if not known:
        raise ConfigError(
            f"{dataset.root} holds no calibration, so no place on a picture is known. Give --calibration FILE (a JSON "
            f"list of camera, height, width, intrinsics, extrinsics), or --calibration simulator where its episodes "
            f"come from one that knows its cameras."
        )
    for name in command.cameras:
        if name not in known:
            raise unknown_name("calibrated camera", name, known)
    own = tuple(camera.name for camera in dataset.cameras if camera.name in known)
    if dataset.cameras and not (command.cameras or own):
        seen = ", ".join(camera.name for camera in dataset.cameras)
        raise ConfigError(f"None of the cameras {seen} of {dataset.root} is calibrated; known: {', '.join(known)}.")
    return tuple(known[name] for name in command.cameras or own or tuple(known)[:1])


def _directions(command: Label, dataset: "Dataset", robot: RobotSpec, known: Mapping[str, Calibration]) -> "Directions":
    from volar.data.labels.moves import ROBOT, seen_by

    if command.directions == "robot":
        return ROBOT
    if command.directions is not None:
        if command.directions not in known:
            raise unknown_name("calibrated camera for --directions", command.directions, (*known, "robot"))
        return seen_by(known[command.directions])
    if known:
        return seen_by(known[next((name for name in command.cameras if name in known), next(iter(known)))])
    if robot.action.frame == "base":
        return ROBOT
    raise ConfigError(
        f"{dataset.root} does not say where forward and left are: its frame is not the robot's base, and no camera is "
        f"calibrated. Say --directions robot if x is forward and y left, or give --calibration."
    )


def _objects(
    command: Label, dataset: "Dataset", replay: "Replay"
) -> "Callable[[int], Sequence[Mapping[str, NamedObject]]]":
    from volar.data import layout
    from volar.data.dataset import require_feature
    from volar.envs.replay import Recorded

    if command.objects == DETECTOR:
        return _detected(command, dataset, _calibrations(command, dataset, replay))
    if command.objects != SIMULATOR:
        return lambda episode: ()
    require_feature(dataset, layout.EXECUTED)
    require_feature(dataset, layout.STATE)

    def objects(episode: int) -> "Sequence[Mapping[str, NamedObject]]":
        where = dataset.episodes[episode]
        rows = range(where.start, where.stop)
        recorded = Recorded(
            task=_task(dataset, episode), seed=int(where.source["seed"]),
            executed=dataset.rows(layout.EXECUTED, rows), proprioception=dataset.rows(layout.STATE, rows),
        )  # fmt: skip
        return replay.objects(recorded)

    return objects


def _detected(
    command: Label, dataset: "Dataset", known: Mapping[str, Calibration]
) -> "Callable[[int], Sequence[Mapping[str, NamedObject]]]":
    """By the pictures of the cameras that are calibrated."""
    from volar.policies.language_folder import PERCEPTIONS, Part

    cameras = [camera.name for camera in dataset.cameras if camera.name in known]
    if not cameras:
        raise ConfigError(
            f"{dataset.root} has no pictures of a calibrated camera, so a detector sees nothing; calibrated: "
            f"{', '.join(known) or 'none'}, its cameras: "
            f"{', '.join(camera.name for camera in dataset.cameras) or 'none'}."
        )
    options = read_pairs(command.objects_options, "--objects-options")
    perception = Part(name=DETECTOR, options=options).build(PERCEPTIONS, Path(), os.environ)

    def objects(episode: int) -> "Sequence[Mapping[str, NamedObject]]":
        where = dataset.episodes[episode]
        perception.begin(cameras, known)
        return [
            dict(perception.see({camera: dataset.frames(camera, [row])[0] for camera in cameras}))
            for row in range(where.start, where.stop)
        ]

    return objects


def _task(dataset: "Dataset", episode: int) -> str:
    """The simulator's task that an episode was recorded in."""
    source = dataset.episodes[episode].source
    if not {"task", "seed"} <= source.keys():
        raise ConfigError(
            f"Episode {episode} of {dataset.root} does not say in which simulator's task, and from which seed, it was "
            f"recorded; only what `volar collect` and `volar data rollouts` wrote can be replayed."
        )
    return source["task"]


def _facts(command: Label, wanted: "Wanted") -> dict[str, Any]:
    """What is kept with the data set: how its labels came about."""
    return {
        "marks": list(wanted.marks),
        "words": list(wanted.words),
        "cameras": [camera.to_json() for camera in wanted.cameras],
        "directions": wanted.directions.said if wanted.directions else None,
        "objects": [command.objects, *command.objects_options],
        "privileged": [PRIVILEGED] if command.objects == SIMULATOR else [],
    }


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Label, prog="volar data label", args=arguments)
    result = write_labels(command)
    return Output(summary([result]), text([result]))
