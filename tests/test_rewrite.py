"""Data sets are converted, merged and split without a number or a stored picture changing, or the reason is named."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from recordings import make_trajectory, open_writer, record

from volar.data import layout
from volar.data.lerobot import open_dataset


def picture_bytes(root: Path, key: str) -> list[bytes]:
    files = sorted((root / "data").rglob("*.parquet"))
    return [cell["bytes"] for file in files for cell in pq.read_table(file, columns=[key])[key].to_pylist()]


def test_jpeg_pictures_are_declared_small_and_close(tmp_path: Path) -> None:
    with open_writer(tmp_path / "d", camera_storage={"front": "jpeg", "wrist": "image"}) as writer:
        for seed in range(2):
            record(writer, seed)
    dataset = open_dataset(tmp_path / "d")
    feature = dataset.features[layout.image_key("front")]
    assert feature["dtype"] == "image" and feature["info"]["image.quality"] == 95
    assert feature["info"]["image.chroma"] == "4:4:4"
    stored = picture_bytes(tmp_path / "d", layout.image_key("front"))
    picture = Image.open(io.BytesIO(stored[0]))
    assert picture.format == "JPEG" and picture.layer == [(1, 1, 1, 0), (2, 1, 1, 1), (3, 1, 1, 1)]  # colour kept whole
    truth = np.concatenate([make_trajectory(seed).images["front"] for seed in range(2)]).astype(int)
    shown = dataset.frames("front", range(dataset.num_frames)).astype(int)
    assert np.abs(shown - truth).mean() < 1.5
    wrist = dataset.frames("wrist", range(dataset.num_frames))
    assert np.array_equal(wrist, np.concatenate([make_trajectory(seed).images["wrist"] for seed in range(2)]))
