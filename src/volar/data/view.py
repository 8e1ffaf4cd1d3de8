"""A folder of HTML to look at a data set's episodes: films in step with curves, marks and findings. Needs no network.

One small page holds the list; every episode is a script of numbers and a film per camera, loaded when it is opened, so
that a thousand episodes open as fast as ten. All texts are data: the page never makes markup of them.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from volar.core.atomic import write_files
from volar.core.errors import ConfigError
from volar.data import layout
from volar.data.events import GripperEvent, Stretch, gripper_events, idle_stretches
from volar.data.dataset import Dataset
from volar.data.episodes import EpisodeRows
from volar.data.panels import Panel, dimension_names, make_panels
from volar.data.video import encode_video

PAGE = "index.html"
EPISODES = "episodes"  # one script per episode
FILMS = "films"  # under the name of the content, so that what is there is never encoded again


def write_view(dataset: Dataset, out: Path, *, episodes: Sequence[int] | None = None, progress: bool = True) -> Path:
    """Write the browser of `episodes` (default: all) into the folder `out` and return its page.

    Films that are there already are kept, so that a stopped run goes on. Raises ConfigError for an unknown episode, a
    folder with something else in it, a folder inside the data set, or damaged pictures.
    """
    chosen = [dataset.episodes[number] for number in _require_known(dataset, episodes)]
    _require_ours(dataset, out)
    ranges = _ranges(dataset, chosen)
    panels = make_panels(dataset, ranges)
    films = Path(FILMS) / dataset.content_hash()
    rows = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        for episode in bar.track(chosen, description="episodes"):
            paths = [_film(dataset, episode, k, out, films) for k in range(len(dataset.cameras))]
            idle, gripper = _idle(dataset, episode, ranges), _gripper(dataset, episode, ranges)
            data = {
                "number": episode.index, "films": paths, "idle": [[one.start, one.stop] for one in idle],
                "gripper": [asdict(one) for one in gripper], "source": episode.source,
                "values": {key: _packed(_values(dataset, key, episode)) for panel in panels for key in panel.keys},
            }  # fmt: skip
            script = f"volarEpisode({_plain_json(data)});\n".encode()
            write_files({out / EPISODES / f"{episode.index:06d}.js": script})
            rows.append(_row(dataset, episode, idle))
    write_files({out / PAGE: _page(dataset, rows, panels).encode()})
    return out / PAGE


def _require_known(dataset: Dataset, episodes: Sequence[int] | None) -> Sequence[int]:
    count = len(dataset.episodes)
    if episodes is None:
        return range(count)
    if unknown := [number for number in episodes if not 0 <= number < count]:
        raise ConfigError(f"Episode {unknown[0]} was asked for; {dataset.root} has 0 to {count - 1}.")
    return sorted(set(episodes))


def _require_ours(dataset: Dataset, out: Path) -> None:
    if out.resolve().is_relative_to(Path(dataset.root).resolve()):
        raise ConfigError(f"{out} lies inside the data set {dataset.root}, which stays as it is; give another folder.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; give a folder.")
    if out.exists() and any(out.iterdir()) and not (out / EPISODES).is_dir():
        raise ConfigError(f"{out} holds something else than a view of episodes; give a new or an empty folder.")


def _values(dataset: Dataset, key: str, episode: EpisodeRows) -> Float64[np.ndarray, "t d"]:
    rows = np.arange(episode.start, episode.stop)
    return dataset.rows(key, rows).reshape(episode.length, -1).astype(np.float64)


def _ranges(dataset: Dataset, episodes: Sequence[EpisodeRows]) -> dict[str, Float64[np.ndarray, "2 d"]]:
    """Smallest and largest values over the episodes of every number that is no bookkeeping."""
    ranges = {}
    for key in dataset.numeric:
        if key in layout.BOOKKEEPING:
            continue
        each = [_values(dataset, key, episode) for episode in episodes]
        ranges[key] = np.stack([np.min([v.min(0) for v in each], 0), np.max([v.max(0) for v in each], 0)])
    return ranges


def _idle(dataset: Dataset, episode: EpisodeRows, ranges: Mapping[str, Float64[np.ndarray, "2 d"]]) -> list[Stretch]:
    key = layout.STATE if layout.STATE in ranges else layout.ACTION
    return idle_stretches(_values(dataset, key, episode), *ranges[key], dataset.fps) if key in ranges else []


def _gripper(
    dataset: Dataset, episode: EpisodeRows, ranges: Mapping[str, Float64[np.ndarray, "2 d"]]
) -> list[GripperEvent]:
    if layout.ACTION not in ranges:
        return []
    low, high = ranges[layout.ACTION]
    names = dimension_names(dataset.features[layout.ACTION], len(low))
    polarity = dataset.spec.action.gripper if dataset.spec else "none"
    return gripper_events(_values(dataset, layout.ACTION, episode), low, high, names, polarity)


def _film(dataset: Dataset, episode: EpisodeRows, camera: int, out: Path, folder: Path) -> str:
    """The path of an episode's film inside `out`, made if it is not there."""
    name = dataset.cameras[camera].name
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:40]  # a name may be no file name, or lead out of the folder
    path = folder / f"{episode.index:06d}-{camera}-{readable}.mp4"
    if not (out / path).exists():
        frames = dataset.frames(name, np.arange(episode.start, episode.stop), keep=False)
        write_files({out / path: encode_video(_even(frames), dataset.fps)})
    return path.as_posix()


def _even(frames: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "t h2 w2 3"]:
    """The last row or column twice where a side is odd, which H.264 cannot store."""
    height, width = frames.shape[1:3]
    return np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _packed(values: Float64[np.ndarray, "t d"]) -> str:
    """float32, little-endian, dimension by dimension, base64: a third of the size of digits."""
    return base64.b64encode(np.ascontiguousarray(values.T).astype("<f4").tobytes()).decode()


def _row(dataset: Dataset, episode: EpisodeRows, idle: Sequence[Stretch]) -> dict[str, Any]:
    """What the list knows of an episode."""
    success = episode.source.get("success")
    return {
        "number": episode.index,
        "file": f"{EPISODES}/{episode.index:06d}.js",
        "tasks": [dataset.tasks.index(task) for task in episode.tasks],
        "length": episode.length,
        "success": success if isinstance(success, bool) else None,
        "idle": sum(one.stop - one.start for one in idle) / episode.length,
    }


def _facts(dataset: Dataset, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The line under the title."""
    frames, total = sum(row["length"] for row in rows), len(dataset.episodes)
    shown = f"{len(rows):,} of {total:,} episodes" if len(rows) < total else f"{total:,} episodes"
    minutes = frames / dataset.fps / 60
    return [
        shown, f"{frames:,} frames", f"{minutes:.1f} min at {dataset.fps:g} frames/s",
        f"{len(dataset.tasks):,} instructions", *(f"camera {c.name}, {c.width} × {c.height}" for c in dataset.cameras),
    ]  # fmt: skip


def _plain_json(data: Any) -> str:
    """JSON that may stand in a script element: no "<", and only ASCII."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _page(dataset: Dataset, rows: list[dict[str, Any]], panels: Sequence[Panel]) -> str:
    environment = Environment(
        loader=PackageLoader("volar.data", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    index = {
        "fps": dataset.fps,
        "tasks": dataset.tasks,
        "cameras": [asdict(camera) for camera in dataset.cameras],
        "panels": [panel.to_json() for panel in panels],
        "episodes": rows,
    }
    script = files("volar.data").joinpath("view.js").read_text()
    return environment.get_template("view.html").render(
        dataset=dataset, name=Path(dataset.root).resolve().name, index=_plain_json(index),
        facts=_facts(dataset, rows),
        style=files("volar.data").joinpath("view.css").read_text(), script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
