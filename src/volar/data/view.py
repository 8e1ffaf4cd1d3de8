"""A folder of HTML to look at a data set's episodes: films in step with curves, marks and findings. Needs no network.

One small page holds the list; every episode is a script of numbers and a film per camera, loaded when it is opened, so
that a thousand episodes open as fast as ten. All texts are data: the page never makes markup of them.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined

from volar.core.atomic import write_files
from volar.core.errors import ConfigError
from volar.core.progress import counting
from volar.core.thoughts import Thought
from volar.data import layout
from volar.data.dataset import Dataset
from volar.data.episodes import EpisodeRows
from volar.data.events import GripperEvent, Stretch, gripper_events, idle_stretches
from volar.data.findings import Finding
from volar.data.inspection.subject import dimension_names
from volar.data.panels import Panel, Ranges, episode_values, make_panels, value_ranges
from volar.data.thoughts import episode_thoughts, has_thoughts
from volar.data.video import browsers_play, encode_video

PAGE = "index.html"
EPISODES = "episodes"  # one script per episode
FILMS = "films"  # one per episode and camera


@dataclass(frozen=True, kw_only=True)
class Look:
    """What there is to see of one episode besides its numbers. films: paths inside the folder, camera by camera."""

    episode: EpisodeRows
    films: tuple[str, ...]
    idle: Sequence[Stretch]
    gripper: Sequence[GripperEvent]
    findings: Sequence[Finding]
    thoughts: Sequence[Thought]


def write_view(
    dataset: Dataset,
    out: Path,
    *,
    episodes: Sequence[int] | None = None,
    findings: Sequence[Finding] = (),
    progress: bool = True,
) -> Path:
    """Write the browser of `episodes` (default: all) into the folder `out` and return its page.

    findings: of a check, shown where they belong. Films that are there already are kept, so that a stopped run goes on.
    Raises ConfigError for a folder with something else in it or inside the data set, or damaged pictures.
    """
    require_ours(dataset, out)
    chosen = [
        dataset.episodes[n] for n in (range(len(dataset.episodes)) if episodes is None else sorted(set(episodes)))
    ]
    flags: dict[int | None, list[Finding]] = {}
    for finding in findings:
        flags.setdefault(finding.place.episode, []).append(finding)
    ranges = value_ranges(dataset, chosen)
    panels = make_panels(dataset, ranges)
    looks = []
    with counting("episodes", len(chosen), shown=progress) as advance:
        for episode in chosen:
            look = Look(
                episode=episode, idle=_idle(dataset, episode, ranges), gripper=_gripper(dataset, episode, ranges),
                films=tuple(_film(dataset, episode, k, out) for k in range(len(dataset.cameras))),
                findings=flags.get(episode.index, ()),
                thoughts=episode_thoughts(dataset, episode.index) if has_thoughts(dataset) else (),
            )  # fmt: skip
            values = {key: _packed(episode_values(dataset, key, episode)) for panel in panels for key in panel.keys}
            script = f"volarEpisode({_plain_json(_details(look) | {'values': values})});\n"
            write_files({out / _script(episode): script.encode()})
            looks.append(look)
            advance(1)
    write_files({out / PAGE: _page(dataset, looks, panels, flags.get(None, ())).encode()})
    return out / PAGE


def require_ours(dataset: Dataset, out: Path) -> None:
    """Raises ConfigError unless `out` is new, empty or the view of a data set, and outside this one."""
    if out.resolve().is_relative_to(Path(dataset.root).resolve()):
        raise ConfigError(f"{out} lies inside the data set {dataset.root}, which stays as it is; give another folder.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; give a folder.")
    if out.exists() and any(out.iterdir()) and not (out / EPISODES).is_dir():
        raise ConfigError(f"{out} holds something else than a view of episodes; give a new or an empty folder.")


def _idle(dataset: Dataset, episode: EpisodeRows, ranges: Ranges) -> list[Stretch]:
    key = layout.STATE if layout.STATE in ranges else layout.ACTION
    if key not in ranges:
        return []
    low, high = ranges[key]
    return idle_stretches(episode_values(dataset, key, episode), low, high, dataset.fps)


def _gripper(dataset: Dataset, episode: EpisodeRows, ranges: Ranges) -> list[GripperEvent]:
    if layout.ACTION not in ranges:
        return []
    low, high = ranges[layout.ACTION]
    names = dimension_names(dataset.features[layout.ACTION])
    polarity = dataset.spec.action.gripper if dataset.spec else "none"
    return gripper_events(episode_values(dataset, layout.ACTION, episode), low, high, names, polarity)


def _film(dataset: Dataset, episode: EpisodeRows, camera: int, out: Path) -> str:
    """The path of an episode's film inside `out`, made if it is not there."""
    name, rows = dataset.cameras[camera].name, np.arange(episode.start, episode.stop)
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:40]  # a name may be no file name, or lead out of the folder
    place = f"{FILMS}/{episode.index:06d}-{camera}-{readable}"
    stored = dataset.source.stored(dataset.require_camera(name), episode.index)
    if isinstance(stored, bytes) and browsers_play(stored, dataset.fps):
        return _kept(out, place, [stored], lambda: stored)
    if isinstance(stored, list):
        return _kept(out, place, stored, lambda: _encoded(dataset.frames(name, rows, keep=False), dataset.fps))
    frames = dataset.frames(name, rows, keep=False)
    return _kept(out, place, [frames.data], lambda: _encoded(frames, dataset.fps))


def _kept(out: Path, place: str, pictures: Sequence[bytes | memoryview], make: Callable[[], bytes]) -> str:
    """The path of the film of these pictures, which its name follows: what is there need not be made again."""
    sha = hashlib.sha256()
    for picture in pictures:
        sha.update(picture)
    path = f"{place}-{sha.hexdigest()[:12]}.mp4"
    if not (out / path).exists():
        write_files({out / path: make()})
    return path


def _encoded(frames: UInt8[np.ndarray, "t h w 3"], fps: float) -> bytes:
    """The last row or column twice where a side is odd, which H.264 cannot store."""
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return encode_video(frames, fps)


def _packed(values: Float64[np.ndarray, "t d"]) -> str:
    """float32, little-endian, dimension by dimension, base64: a third of the size of digits."""
    return base64.b64encode(np.ascontiguousarray(values.T).astype("<f4").tobytes()).decode()


def _flag(finding: Finding) -> dict[str, Any]:
    place = finding.place
    return {
        "severity": finding.severity.value, "code": finding.code, "place": str(place), "start": place.start,
        "stop": place.stop, "seen": finding.seen, "remedy": finding.remedy,
    }  # fmt: skip


def _script(episode: EpisodeRows) -> str:
    return f"{EPISODES}/{episode.index:06d}.js"


def _details(look: Look) -> dict[str, Any]:
    """What is loaded when the episode is opened."""
    return {
        "number": look.episode.index, "films": look.films, "source": look.episode.source,
        "idle": [[one.start, one.stop] for one in look.idle], "gripper": [asdict(one) for one in look.gripper],
        "findings": [_flag(one) for one in look.findings], "thoughts": _thoughts(look.thoughts),
    }  # fmt: skip


def _thoughts(thoughts: Sequence[Thought]) -> list[dict[str, Any]]:
    """Those that differ from the one before, with the frame from which on they hold."""
    changes = [at for at, thought in enumerate(thoughts) if at == 0 or thought is not thoughts[at - 1]]
    return [
        {"start": at, "words": dict(thoughts[at].words), "marks": [asdict(mark) for mark in thoughts[at].marks]}
        for at in changes
    ]


def _row(look: Look, tasks: Mapping[str, int]) -> dict[str, Any]:
    """What the list knows of the episode."""
    episode, success = look.episode, look.episode.source.get("success")
    return {
        "number": episode.index, "file": _script(episode), "tasks": [tasks[task] for task in episode.tasks],
        "length": episode.length, "success": success if isinstance(success, bool) else None,
        "idle": sum(one.stop - one.start for one in look.idle) / episode.length,
        "flags": [[one.severity.value, one.code] for one in look.findings],
    }  # fmt: skip


def _facts(dataset: Dataset, looks: Sequence[Look]) -> list[str]:
    """The line under the title."""
    frames, total = sum(look.episode.length for look in looks), len(dataset.episodes)
    shown = f"{len(looks):,} of {total:,} episodes" if len(looks) < total else f"{total:,} episode{'s' * (total > 1)}"
    seconds = frames / dataset.fps
    time = (
        f"{seconds:.1f} s"
        if seconds < 60
        else f"{seconds / 60:.1f} min"
        if seconds < 3600
        else f"{seconds / 3600:.1f} h"
    )
    return [
        dataset.format, shown, f"{frames:,} frames", f"{time} at {dataset.fps:g} frames a second",
        "1 instruction" if len(dataset.tasks) == 1 else f"{len(dataset.tasks):,} instructions",
        *(f"camera {c.name}, {c.width} × {c.height}" for c in dataset.cameras),
    ]  # fmt: skip


def _plain_json(data: Any) -> str:
    """JSON that may stand in a script element: no "<", and only ASCII."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _page(dataset: Dataset, looks: Sequence[Look], panels: Sequence[Panel], general: Sequence[Finding]) -> str:
    environment = Environment(
        loader=PackageLoader("volar.data", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    tasks = {task: place for place, task in enumerate(dict.fromkeys(t for look in looks for t in look.episode.tasks))}
    index = {
        "fps": dataset.fps, "tasks": list(tasks), "cameras": [asdict(camera) for camera in dataset.cameras],
        "panels": [panel.to_json() for panel in panels], "episodes": [_row(look, tasks) for look in looks],
        "findings": [_flag(one) for one in general],
    }  # fmt: skip
    script = files("volar.data").joinpath("view.js").read_text()
    return environment.get_template("view.html").render(
        name=Path(dataset.root).resolve().name, facts=_facts(dataset, looks), index=_plain_json(index),
        style=files("volar.data").joinpath("view.css").read_text(), script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
