"""Wrote rlds_tiny/ with tensorflow_datasets 4.9.10, and what TensorFlow 2.21 reads back from it, rlds_tiny.json.

In an environment of its own, since volar needs neither: python write_rlds_tiny.py FOLDER
"""

import base64
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf  # type: ignore[import-not-found]
import tensorflow_datasets as tfds  # type: ignore[import-not-found]

LENGTHS = (4, 3, 5)
WORDS = ("pick up the red cube", "öffne die Schublade", "pick up the red cube")
Image, Scalar, Tensor, Dict = (vars(tfds.features)[name] for name in ("Image", "Scalar", "Tensor", "FeaturesDict"))


class TinyRobot(tfds.core.GeneratorBasedBuilder):
    """Made-up episodes, laid out as conversions of robot data are."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        observation = {
            "image": Image(shape=(16, 16, 3), dtype=np.uint8, encoding_format="jpeg"),
            "wrist_image": Image(shape=(12, 16, 3), dtype=np.uint8, encoding_format="png"),
            "depth": Image(shape=(12, 16, 1), dtype=np.uint16, encoding_format="png"),
            "state": Tensor(shape=(8,), dtype=np.float32),
            "joint_state": Tensor(shape=(7,), dtype=np.float64),
            "gripper": Scalar(dtype=np.int32),
        }
        parts = {
            "world_vector": Tensor(shape=(3,), dtype=np.float32),
            "rotation_delta": Tensor(shape=(3,), dtype=np.float32),
            "open_gripper": np.bool_,
        }
        step = {
            "observation": Dict(observation), "action": Tensor(shape=(7,), dtype=np.float32),
            "action_dict": Dict(parts), "discount": Scalar(dtype=np.float32), "reward": Scalar(dtype=np.float32),
            "is_first": Scalar(dtype=np.bool_), "is_last": Scalar(dtype=np.bool_),
            "is_terminal": Scalar(dtype=np.bool_), "language_instruction": tfds.features.Text(),
        }  # fmt: skip
        metadata = Dict({"file_path": tfds.features.Text(), "episode_id": Scalar(dtype=np.int32)})
        features = Dict({"steps": tfds.features.Dataset(step), "episode_metadata": metadata})
        return tfds.core.DatasetInfo(builder=self, description="made up", features=features)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples(range(3)), "val": self._generate_examples(range(2))}

    def _generate_examples(self, which: range) -> Iterator[tuple[str, dict[str, Any]]]:
        for number in which:
            drawn = np.random.default_rng(number)
            steps = [one_step(drawn, number, step) for step in range(LENGTHS[number])]
            metadata = {"file_path": f"recordings/{number}.h5", "episode_id": number}
            yield f"episode_{number}", {"steps": steps, "episode_metadata": metadata}


def one_step(drawn: np.random.Generator, number: int, step: int) -> dict[str, Any]:
    ramp, last = np.linspace(0, 255, 16, dtype=np.uint8), step == LENGTHS[number] - 1
    image = np.stack([np.add.outer(ramp // 2, ramp // 2)] * 3, -1).astype(np.uint8)
    image[..., 1] = 40 * number + 10 * step
    vector, rotation = drawn.normal(size=3).astype(np.float32), drawn.normal(size=3).astype(np.float32)
    grip = bool(drawn.integers(2))
    return {
        "observation": {
            "image": image,
            "wrist_image": drawn.integers(0, 256, (12, 16, 3)).astype(np.uint8),
            "depth": drawn.integers(0, 2000, (12, 16, 1)).astype(np.uint16),
            "state": drawn.normal(size=8).astype(np.float32),
            "joint_state": drawn.normal(size=7),
            "gripper": int(drawn.integers(-300, 300)),
        },
        "action": np.concatenate([vector, rotation, [grip]]).astype(np.float32),
        "action_dict": {"world_vector": vector, "rotation_delta": rotation, "open_gripper": grip},
        "discount": 1.0, "reward": float(last), "is_first": step == 0, "is_last": last, "is_terminal": last,
        "language_instruction": WORDS[number],
    }  # fmt: skip


def plain(value: Any) -> Any:
    """Text and numbers; of pictures shape and pixels in base 64."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.ndim == 3:
        return {"shape": value.shape, "pixels": base64.b64encode(value.tobytes()).decode()}
    return np.asarray(value).tolist()


def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}/")
        elif key not in ("depth", "discount", "is_terminal"):
            yield f"{prefix}{key}", plain(value)


def exact_pictures(made: Path, split: str) -> Iterator[Any]:
    """The JPEG pictures by the exact transform; TensorFlow's default is a fast one, here off by up to 5 levels."""
    for record in tf.data.TFRecordDataset(sorted(map(str, made.glob(f"*-{split}.tfrecord*")))):
        kept = tf.train.Example.FromString(record.numpy()).features.feature["steps/observation/image"]
        for content in kept.bytes_list.value:
            yield plain(tf.io.decode_jpeg(content, dct_method="INTEGER_ACCURATE").numpy())


def read_back(builder: Any, split: str) -> Iterator[dict[str, Any]]:
    pictures = exact_pictures(Path(builder.data_dir), split)
    for episode in builder.as_dataset(split=split, shuffle_files=False):
        rows = [
            dict(flat(step)) | {"observation/image": next(pictures)} for step in episode["steps"].as_numpy_iterator()
        ]
        names = rows[0] if split == "train" else ("action",)
        metadata = {key: plain(value.numpy()) for key, value in episode["episode_metadata"].items()}
        yield {"steps": {name: [row[name] for row in rows] for name in names}, "metadata": metadata}


def main(folder: Path) -> None:
    builder = TinyRobot(data_dir=str(folder / "work"))
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=2))
    truth = {split: list(read_back(builder, split)) for split in ("train", "val")}
    shutil.copytree(builder.data_dir, folder / "rlds_tiny")
    (folder / "rlds_tiny.json").write_text(json.dumps(truth, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
