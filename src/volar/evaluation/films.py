"""Film strips: one small picture that shows how an episode went, and the way of any film into a self-contained page."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from volar.core.errors import ConfigError
from volar.core.thoughts import Thought
from volar.data.marks import mark_picture

MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
STRIP = 8  # frames of a film strip
GAP = 2  # white pixels between two frames


def shown_frames(total: int, *, count: int = STRIP) -> list[int]:
    """Which of `total` frames a strip of `count` shows: evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, total - 1, count).round().astype(int)).tolist()


def film_strip(frames: UInt8[np.ndarray, "t h w 3"], *, count: int = STRIP, quality: int = 80) -> bytes:
    """A JPEG of `count` frames side by side, evenly spaced from the first to the last; fewer when there are fewer."""
    if len(frames) == 0 or count < 1:
        raise ConfigError(f"A film strip needs at least one frame, got {len(frames)} frames and count {count}.")
    chosen = frames[shown_frames(len(frames), count=count)]
    height, width = chosen.shape[1:3]
    strip = np.full((height, len(chosen) * (width + GAP) - GAP, 3), 255, dtype=np.uint8)
    for i, frame in enumerate(chosen):
        strip[:, i * (width + GAP) : i * (width + GAP) + width] = frame
    stream = io.BytesIO()
    Image.fromarray(strip).save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()


def marked(
    images: Mapping[str, UInt8[np.ndarray, "t _ _ 3"]], thoughts: Sequence[Thought]
) -> list[UInt8[np.ndarray, "n _ _ 3"]]:  # fmt: skip
    """The pictures of every camera that a strip shows. Where somebody thought of marks, they are enlarged and bear
    them. images: one per look, and one of the last moment. thoughts: one per look, or none."""
    chosen = shown_frames(len(next(iter(images.values()))))
    if not any(thought.marks for thought in thoughts):
        return [frames[chosen] for frames in images.values()]
    marks = [thoughts[look].marks if look < len(thoughts) else () for look in chosen]
    return [
        np.stack([
            mark_picture(frames[look], [mark for mark in of_look if mark.camera == camera])
            for look, of_look in zip(chosen, marks, strict=True)
        ])
        for camera, frames in images.items()
    ]  # fmt: skip


def data_uri(folder: Path, film: str) -> str | None:
    """The film at `folder/film` as a data URI; None when the file is missing. Raises ConfigError for a path that
    leaves the folder or a file that a browser does not show."""
    path = (folder / film).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ConfigError(f"The film {film!r} lies outside the run's folder {folder}.")
    if path.suffix.lower() not in MEDIA_TYPES:
        raise ConfigError(f"The film {film!r} is not one of {', '.join(MEDIA_TYPES)}.")
    if not path.is_file():
        return None
    return f"data:{MEDIA_TYPES[path.suffix.lower()]};base64,{base64.b64encode(path.read_bytes()).decode()}"
