"""The pictures of a data set's rows: frames of its videos and embedded image files, decoded on demand.

Every picture has the declared size, or the file is named as damaged.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from volar.core.errors import ConfigError
from volar.core.robot import Camera
from volar.data import layout
from volar.data.cache import Recent
from volar.data.store import Store
from volar.data.video import VideoDecoder, VideoFile

VIDEO_BYTES = 512 * 2**20  # of mp4 files kept in memory


class Films:
    """The videos of one data set. What it remembers is bounded, and stays with its process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._videos: Recent[VideoFile] = Recent(VIDEO_BYTES)
        self._decoder = VideoDecoder()

    def __reduce__(self) -> tuple[Any, ...]:
        return Films, (self._store,)

    def frames(
        self, name: str, times: Float64[np.ndarray, " n"], fps: float, camera: Camera, checksum: int | None = None
    ) -> list[UInt8[np.ndarray, "h w 3"]]:
        """The pictures shown at `times` (seconds of the video). checksum: CRC-32 of the file, if known."""
        video = self._videos.get(
            name, lambda: VideoFile(self._store.path(name), checksum), lambda video: video.num_bytes
        )
        shown = video.frames_at(times, fps)
        decoded = self._decoder.decode(video, sorted(set(shown)))
        for place, picture in decoded.items():
            _require_size(picture.shape, camera, f"{self._store.place(name)}: frame {place}")
        return [decoded[place] for place in shown]


def decode_picture(cell: Mapping[str, Any] | None, camera: Camera, path: str, row: int) -> UInt8[np.ndarray, "h w 3"]:
    """An embedded picture file, {"bytes": ...}, as RGB. `path` and `row` are for messages."""
    if cell is None or cell.get("bytes") is None:
        raise ConfigError(f"{path}: row {row} holds no picture, only a link; embed the pictures in the data set.")
    try:
        picture = Image.open(io.BytesIO(cell["bytes"]))
        # Before the pixels are asked for: a small file can claim any number of them.
        _require_size((picture.height, picture.width, 3), camera, f"{path}: row {row}")
        return np.asarray(picture.convert("RGB"))
    except ConfigError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{path}: the picture of row {row} is corrupt: {error}.") from error


def image_features(features: Mapping[str, Any]) -> dict[str, Camera]:
    """Feature key -> colour camera; depth maps are left alone."""
    return {
        key: _camera(key, feature)
        for key, feature in features.items()
        if feature["dtype"] in ("video", "image") and 3 in (feature["shape"][0], feature["shape"][-1])
    }


def _camera(key: str, feature: Mapping[str, Any]) -> Camera:
    shape, names = feature["shape"], feature.get("names")
    channels_first = isinstance(names, list) and names[:1] in (["channel"], ["channels"])
    height, width = shape[1:] if channels_first else shape[:2]
    return Camera(name=layout.camera_name(key), height=height, width=width)


def _require_size(shape: tuple[int, ...], camera: Camera, where: str) -> None:
    if shape != (camera.height, camera.width, 3):
        raise ConfigError(
            f"{where} is a picture of {shape[0]} x {shape[1]}, declared are {camera.height} x {camera.width}."
        )
