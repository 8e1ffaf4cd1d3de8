"""Writes episodes of readable data sets into a new LeRobot v3.0 data set: what convert, merge and split do.

Numbers keep every bit, pictures stay the stored files unless another storage is asked for. No source is ever touched,
no episode changed, and what the new format cannot hold is refused, not dropped.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from volar.core.errors import ConfigError, unknown_name
from volar.core.progress import counting
from volar.core.robot import RobotSpec, require_match
from volar.data import layout
from volar.data.appending import ASSIGNED, EpisodeAppender, EpisodeContent, StoredPictures
from volar.data.dataset import Dataset
from volar.data.language import LanguageRows
from volar.data.pictures import coding_of
from volar.data.recording import Storage, camera_feature, declare, differences
from volar.data.summaries import pixel_counts, sampled_pictures
from volar.data.writer import store_pictures

LANGUAGE_FEATURE = {"dtype": "language", "shape": [1], "names": None}
ORIGIN = "rewritten_from"  # in the facts: which data sets; in an episode's source: which episode of which


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Episodes of a data set, in the order in which they are to be written. labels: episode -> language rows in place
    of those that the data set has, if any. facts: what is to be noted of the whole beside its own facts."""

    dataset: Dataset
    episodes: tuple[int, ...]
    labels: Callable[[int], LanguageRows] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """storage: how pictures are stored; None leaves them as they are. robot: what the numbers mean, where a data set
    does not say so; assume_nothing: go on where nobody says it. leave_out: features that are not to be written.
    fps: frames per second where what a data set says is wrong; films, which keep their own times, are encoded anew."""

    storage: Storage | None = None
    robot: RobotSpec | None = None
    assume_nothing: bool = False
    leave_out: tuple[str, ...] = ()
    fps: float | None = None


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """What the new data set holds, and camera -> episodes whose pictures were encoded anew in this run."""

    root: Path
    episodes: int
    frames: int
    encoded: Mapping[str, int]


def rewrite(pieces: Sequence[Piece], out: Path, *, choices: Choices | None = None, progress: bool = False) -> Rewritten:
    """Write the episodes of all pieces, one after the other, to `out`; goes on where a killed run stopped.

    Raises ConfigError before anything is written if the pieces do not fit together (every difference is listed), a
    feature cannot be kept, nobody says what the numbers mean, or `out` holds something else; OSError if the disk is
    full: every source and all episodes written so far are whole then.
    """
    choices, facts = choices or Choices(), _facts(pieces)
    for piece in pieces:
        _require_apart(piece.dataset, out)
    infos = [_declared(piece, choices, facts) for piece in pieces]
    _require_same(pieces, infos)
    info = infos[0]
    plan = [
        _Task(piece, episode, copied)
        for piece, copied in ((piece, _copied(piece.dataset, info)) for piece in pieces)
        for episode in piece.episodes
    ]
    encoded = dict.fromkeys(info[layout.EXTENSION]["storage"], 0)
    appender = EpisodeAppender(out, info, resume=True)
    try:
        done = appender.num_episodes
        if [source.get(ORIGIN) for source in appender.saved] != [each.origin() for each in plan[:done]]:
            raise ConfigError(f"{out} holds other episodes of the same data sets; choose another folder.")
        with counting("episodes", len(plan), shown=progress, done=done) as advance:
            for each in plan[done:]:
                appender.append(each.content(info, encoded))
                advance(1)
    finally:
        appender.close()
    return Rewritten(root=out, episodes=appender.num_episodes, frames=appender.info["total_frames"], encoded=encoded)


def _require_apart(dataset: Dataset, out: Path) -> None:
    source, target = Path(dataset.root).resolve(), out.resolve()
    if target == source or source in target.parents or target in source.parents:
        raise ConfigError(f"{out} and the data set {dataset.root} lie in one another; choose a folder apart from it.")


def _declared(piece: Piece, choices: Choices, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the new data set would declare if it held this one alone."""
    dataset = piece.dataset
    for name in choices.leave_out:
        if name not in dataset.features:
            raise unknown_name(f"feature of {dataset.root}", name, dataset.features)
    if layout.ACTION in choices.leave_out:
        raise ConfigError(f"Nothing can be learned from a data set without {layout.ACTION!r}; keep it.")
    fps = _fps(dataset, choices)
    cameras = {dataset.require_camera(camera.name): camera for camera in dataset.cameras}
    numbers = dataset.numbers(range(1))
    features: dict[str, Any] = {}
    storage: dict[str, Storage] = {}
    for key, feature in dataset.features.items():
        if key in choices.leave_out or key in layout.BOOKKEEPING:
            continue
        if key in cameras:
            plain: Storage = "video" if feature["dtype"] == "video" else "image"
            kept = choices.storage is None and (plain == "image" or fps == dataset.fps)
            stored = stored_feature(dataset, key) if kept else None
            wanted = stored or camera_feature(cameras[key], choices.storage or plain, fps)
            features[key], storage[cameras[key].name] = wanted, _storage_of(wanted)
        elif key in numbers:
            features[key] = {**feature, "dtype": str(numbers[key].dtype)}
    features |= {key: LANGUAGE_FEATURE for key in layout.LANGUAGE if _labelled(piece, choices)}
    if lost := sorted(dataset.features.keys() - features.keys() - layout.BOOKKEEPING.keys() - set(choices.leave_out)):
        raise ConfigError(
            f"{dataset.root} has features that volar cannot carry over: {lost} (text, depth or sound). "
            f"Name them with --leave-out to go on without them."
        )
    features |= {key: layout.vector(1, None, dtype) for key, dtype in layout.BOOKKEEPING.items()}
    if robot := _robot(dataset, choices):  # what is left out is no longer seen
        seen = tuple(camera for camera in robot.cameras if camera.name in storage)
        robot = replace(robot, cameras=seen, proprioception=robot.proprioception if layout.STATE in features else ())
    return declare(
        features, fps=fps, camera_storage=storage, robot_type=dataset.info.get("robot_type"), spec=robot,
        extra=facts,
    )  # fmt: skip


def _labelled(piece: Piece, choices: Choices) -> bool:
    """Both columns, or none."""
    kept = set(layout.LANGUAGE) <= piece.dataset.features.keys() - set(choices.leave_out)
    return piece.labels is not None or kept


def _fps(dataset: Dataset, choices: Choices) -> float:
    if choices.fps is None:
        return dataset.fps
    if not (choices.fps > 0 and math.isfinite(choices.fps)):
        raise ConfigError(f"Frames per second must be a positive number, got {choices.fps:g}.")
    return choices.fps


def stored_feature(dataset: Dataset, key: str) -> dict[str, Any] | None:
    """A camera's declaration that fits its stored files; None if it has none that could be copied."""
    feature = dict(dataset.features[key])
    stored = dataset.source.stored(key, 0)
    if stored is None or isinstance(stored, bytes):
        return None if stored is None else feature
    facts = dict(feature.get("info") or {})
    if coding_of(stored[0]) == "jpg":
        facts = {"image.codec": "jpeg"} | facts
    return {key: value for key, value in feature.items() if key != "info"} | ({"info": facts} if facts else {})


def stored_language(dataset: Dataset, episode: int) -> LanguageRows:
    """The language rows of an episode of a data set that has them."""
    every = range(dataset.episodes[episode].length)
    (lasting,) = dataset.source.language(layout.PERSISTENT, episode, range(1))
    events = dataset.source.language(layout.EVENTS, episode, every)
    return LanguageRows(lasting=tuple(lasting), events=tuple(map(tuple, events)))


def _storage_of(feature: Mapping[str, Any]) -> Storage:
    if feature["dtype"] == "video":
        return "video"
    return "jpeg" if feature.get("info", {}).get("image.codec") == "jpeg" else "image"


def _robot(dataset: Dataset, choices: Choices) -> RobotSpec | None:
    spec = dataset.spec or choices.robot
    if spec is None:
        if choices.assume_nothing:
            return None
        raise ConfigError(
            f"{dataset.root} does not say what its numbers mean (control mode, rotation, gripper sign, units, rate). "
            f"Say it with --robot FILE, a RobotSpec as JSON or a recipe with one; or leave it unsaid with "
            f"--assume-nothing, and say it at every training."
        )
    if dataset.spec is not None and choices.robot is not None:
        require_match(dataset.spec, choices.robot, our_name=str(dataset.root), their_name="the robot given")
    if dataset.spec is None or choices.fps is not None:
        _require_fits(dataset, spec, _fps(dataset, choices))
    return spec


def _require_fits(dataset: Dataset, spec: RobotSpec, fps: float) -> None:
    """What somebody says of a data set is not contradicted by its features. ConfigError lists every contradiction."""
    found = {camera.name: (camera.height, camera.width) for camera in dataset.cameras}
    said = {camera.name: (camera.height, camera.width) for camera in spec.cameras}
    widths = {
        layout.ACTION: len(spec.action.names), layout.STATE: len(spec.proprioception),
    }  # fmt: skip
    wrong = [f"cameras: the robot has {said}, the data set {found}"] if said != found else []
    for name, width in widths.items():
        there = int(np.prod(dataset.features[name]["shape"])) if name in dataset.features else 0
        if there != width:
            wrong.append(f"{name}: the robot has {width} dimensions, the data set {there}")
    if abs(spec.action.rate_hz - fps) > 1e-6:
        wrong.append(
            f"rate: the robot acts at {spec.action.rate_hz:g} Hz, the data set has {fps:g} frames a second (if one of "
            f"its frames is one step of the robot and only the label is wrong: --fps {spec.action.rate_hz:g})"
        )
    if wrong:
        raise ConfigError(f"What is said of the robot does not fit {dataset.root}:\n  " + "\n  ".join(wrong))


def _require_same(pieces: Sequence[Piece], infos: Sequence[Mapping[str, Any]]) -> None:
    first = pieces[0].dataset.root
    for piece, info in zip(pieces[1:], infos[1:], strict=True):
        other = piece.dataset.root
        if different := differences(infos[0], info, ours_name=f"in {first}", theirs_name=f"in {other}"):
            raise ConfigError(
                f"{other} and {first} cannot become one data set:\n  "
                + "\n  ".join(different)
                + "\nPictures that are only stored differently are brought together by --storage; for different "
                "robots, train on a mixture instead."
            )


def _facts(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Facts on which all sources agree stay where they were; what differs is kept with each source."""
    every = [{**piece.dataset.facts, **piece.facts} for piece in pieces]
    agreed = {
        key: value
        for key, value in every[0].items()
        if key != ORIGIN and all(key in facts and facts[key] == value for facts in every)
    }
    sources = [
        {
            "data": piece.dataset.content_hash(),
            "name": Path(piece.dataset.root).name,
            "format": piece.dataset.format,
            "episodes": len(piece.episodes),
            "fps": piece.dataset.fps,
            "facts": {key: value for key, value in facts.items() if key not in agreed},
        }
        for piece, facts in zip(pieces, every, strict=True)
    ]
    return agreed | {ORIGIN: sources}


def _copied(dataset: Dataset, info: Mapping[str, Any]) -> frozenset[str]:
    """The cameras whose stored files already are what is wanted."""
    keys = (dataset.require_camera(camera.name) for camera in dataset.cameras)
    wanted = {
        key: feature
        for key, feature in info["features"].items()
        if feature["dtype"] != "video" or info["fps"] == dataset.fps
    }
    return frozenset(key for key in keys if key in wanted and stored_feature(dataset, key) == wanted[key])


@dataclass(frozen=True)
class _Task:
    """One episode to be written. copied: cameras whose stored files are kept."""

    piece: Piece
    episode: int
    copied: frozenset[str]

    def origin(self) -> dict[str, Any]:
        """Where the episode comes from, and where that one came from."""
        before = self.piece.dataset.episodes[self.episode].source.get(ORIGIN)
        origin = {"data": self.piece.dataset.content_hash(), "episode": self.episode}
        return origin | ({"before": before} if before else {})

    def content(self, info: Mapping[str, Any], encoded: dict[str, int]) -> EpisodeContent:
        """encoded: counts, by camera, where pictures could not be copied."""
        dataset, where = self.piece.dataset, self.piece.dataset.episodes[self.episode]
        rows = np.arange(where.start, where.stop)
        features = info["features"]
        numbers = {
            key: dataset.rows(key, rows).reshape(len(rows), -1)
            for key, feature in features.items()
            if key not in (*ASSIGNED, *layout.LANGUAGE) and feature["dtype"] not in ("video", "image")
        }
        if info["fps"] != dataset.fps:
            numbers["timestamp"] = np.arange(len(rows), dtype=features["timestamp"]["dtype"])[:, None] / info["fps"]
        pictures: dict[str, StoredPictures] = {}
        for camera in dataset.cameras:
            key = dataset.require_camera(camera.name)
            if key not in features:
                continue
            stored = dataset.source.stored(key, self.episode) if key in self.copied else None
            if stored is not None:
                sample = dataset.frames(camera.name, rows[sampled_pictures(len(rows))], keep=False)
                pictures[key] = StoredPictures(content=stored, pixels=pixel_counts(sample))
            else:
                frames = dataset.frames(camera.name, rows, keep=False)
                pictures[key] = store_pictures(frames, _storage_of(features[key]), info["fps"])
                encoded[camera.name] += 1
        instructions = [dataset.tasks[task] for task in dataset.rows("task_index", rows).tolist()]
        source = {**where.source, ORIGIN: self.origin()}
        labels = self.piece.labels or partial(stored_language, dataset)
        language = labels(self.episode) if layout.EVENTS in features else None
        return EpisodeContent(
            numbers=numbers, pictures=pictures, instructions=instructions, source=source, language=language
        )
