"""How a data set's pictures lie on disk, what a random one costs to read, and whether all fit into memory decoded."""

import io
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from volar.core.robot import Camera
from volar.data.dataset import Dataset
from volar.data.parquet import ParquetFiles, column_bytes
from volar.data.video import VideoFile

READS: Final = 32  # random pictures that the time is the median of


@dataclass(frozen=True, kw_only=True)
class StoredForm:
    """One camera. codec: of the video ("h264"), or of the embedded picture files ("png"); None where the format does
    not tell. key_frame_every: pictures; 1 for single pictures. bytes_per_frame: on disk, None where that is not known.
    read_ms: wall time of one picture at random, files in the system's cache. decoded_bytes: of all pictures."""

    camera: str
    height: int
    width: int
    kind: str
    codec: str | None
    key_frame_every: float | None
    bytes_per_frame: float | None
    read_ms: float
    decoded_bytes: int
    fits: bool


def stored_forms(dataset: Dataset, *, seed: int = 0) -> tuple[StoredForm, ...]:
    """Every camera's. `fits`: the pictures of this and the cameras before it fit into `decoded_bytes` of the options.

    seed: which pictures are read. Raises ConfigError for damaged files.
    """
    forms, left = [], dataset.options.decoded_bytes
    for camera in dataset.cameras:
        key = dataset.require_camera(camera.name)
        kind = dataset.features[key]["dtype"]
        file = _video(dataset, key) if kind == "video" else _pictures(dataset, key)
        size = dataset.num_frames * camera.height * camera.width * 3
        forms.append(
            StoredForm(
                camera=camera.name, height=camera.height, width=camera.width, kind=kind, codec=file.codec,
                key_frame_every=file.key_frame_every, bytes_per_frame=file.bytes_per_frame,
                read_ms=_read_ms(dataset, camera, seed), decoded_bytes=size, fits=size <= left,
            )
        )  # fmt: skip
        left -= size if size <= left else 0
    return tuple(forms)


@dataclass(frozen=True, kw_only=True)
class _Files:
    codec: str | None = None
    key_frame_every: float | None = None
    bytes_per_frame: float | None = None


def _video(dataset: Dataset, key: str) -> _Files:
    names = [name for name in dataset.store.files("videos") if name.endswith(".mp4") and f"/{key}/" in name]
    if not names:
        return _Files()
    first = VideoFile(dataset.store.path(names[0]))
    size = sum(dataset.store.path(name).stat().st_size for name in names)
    return _Files(
        codec=first.compression, key_frame_every=first.key_frame_every, bytes_per_frame=size / dataset.num_frames
    )


def _pictures(dataset: Dataset, key: str) -> _Files:
    names = [name for name in dataset.store.files("data") if name.endswith(".parquet")]
    if not names:
        return _Files()
    cell = ParquetFiles(dataset.store, dataset.features).cell(names[0], key, 0)
    content = b"" if cell is None else cell.get("bytes") or b""
    codec = (Image.open(io.BytesIO(content)).format or "").lower() if content else None
    size = sum(column_bytes(dataset.store.path(name), key) for name in names)
    return _Files(codec=codec, key_frame_every=1.0, bytes_per_frame=size / dataset.num_frames)


def _read_ms(dataset: Dataset, camera: Camera, seed: int) -> float:
    rows = np.random.default_rng(seed).integers(0, dataset.num_frames, READS)
    dataset.frames(camera.name, rows, keep=False)  # opening files and decoders is paid once
    times = []
    for row in rows.tolist():
        started = time.perf_counter()
        dataset.frames(camera.name, [row], keep=False)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3
