"""RLDS and robomimic data sets: samples that TensorFlow and h5py wrote, what must be declared, and damage."""

import base64
import json
import pickle
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import numpy as np
import pytest

from volar.core.errors import ConfigError
from volar.core.robot import ActionSpec, Camera, RobotSpec
from volar.data.dataset import Dataset
from volar.data.declaration import Declaration
from volar.data.formats import open_dataset
from volar.data.tfrecord import index_records, parse_example
from volar.data.windows import Windows

SAMPLES = Path(__file__).parent / "samples"
RLDS, ROBOMIMIC = SAMPLES / "rlds_tiny", SAMPLES / "robomimic_tiny.hdf5"
RLDS_SAYS = Declaration(fps=5, state=("state", "gripper"))
ROBOMIMIC_SAYS = Declaration(instruction="lift the cube", state=("robot0_eef_pos", "robot0_gripper_qpos"))
TRUTH: dict[str, list[dict[str, Any]]] = json.loads((SAMPLES / "rlds_tiny.json").read_text())
JPEG_LEVELS = 2  # by which two exact decoders of a JPEG may differ; TensorFlow's default is a fast one, off by up to 5


def steps(name: str, split: str = "train") -> list[Any]:
    """The values of all steps as TensorFlow read them, in its order."""
    return [value for episode in TRUTH[split] for value in episode["steps"][name]]


def pixels(name: str) -> np.ndarray:
    found = [np.frombuffer(base64.b64decode(p["pixels"]), np.uint8).reshape(p["shape"]) for p in steps(name)]
    return np.stack(found)


class TestRlds:
    def test_numbers_are_those_that_tensorflow_reads(self) -> None:
        dataset = open_dataset(RLDS, declared=RLDS_SAYS)
        state = np.concatenate([steps("observation/state"), np.array(steps("observation/gripper"))[:, None]], axis=1)
        assert (dataset.format, dataset.fps) == ("RLDS", 5.0)
        np.testing.assert_array_equal(dataset.arrays["action"], np.array(steps("action"), np.float32))
        np.testing.assert_array_equal(dataset.arrays["observation.state"], state)
        np.testing.assert_array_equal(dataset.arrays["next.reward"][:, 0], steps("reward"))
        assert dataset.arrays["action"].dtype == np.float32
        assert dataset.features["observation.state"]["names"] == [*(f"state_{i}" for i in range(8)), "gripper"]

    def test_episodes_keep_length_instruction_and_metadata(self) -> None:
        dataset = open_dataset(RLDS, declared=RLDS_SAYS)
        found = [(e.length, e.tasks, dict(e.source)) for e in dataset.episodes]
        assert found == [
            (len(e["steps"]["action"]), (e["steps"]["language_instruction"][0],), e["metadata"]) for e in TRUTH["train"]
        ]
        words = [dataset.tasks[task] for task in dataset.arrays["task_index"]]
        assert words == steps("language_instruction")

    def test_png_pictures_are_exact_and_jpeg_within_two_levels(self) -> None:
        dataset = open_dataset(RLDS, declared=RLDS_SAYS)
        everything = np.arange(dataset.num_frames)
        assert {camera.name for camera in dataset.cameras} == {"image", "wrist_image"}  # not the depth map
        np.testing.assert_array_equal(dataset.frames("wrist_image", everything), pixels("observation/wrist_image"))
        off = dataset.frames("image", everything).astype(int) - pixels("observation/image")
        assert np.abs(off).max() <= JPEG_LEVELS

    def test_a_split_is_a_part(self) -> None:
        dataset = open_dataset(RLDS, declared=Declaration(fps=5, state=(), part="val"))
        np.testing.assert_array_equal(dataset.arrays["action"], np.array(steps("action", "val"), np.float32))
        assert "observation.state" not in dataset.features
        with pytest.raises(ConfigError, match=r"No split .*'trian'. Did you mean 'train'\?"):
            open_dataset(RLDS, declared=Declaration(fps=5, state=(), part="trian"))

    def test_floats_declared_as_double_are_what_the_records_hold(self) -> None:
        dataset = open_dataset(RLDS, declared=Declaration(fps=5, state=("joint_state",)))
        assert dataset.features["observation.state"]["dtype"] == "float32"  # tf.train.Example has no doubles
        np.testing.assert_array_equal(dataset.arrays["observation.state"], steps("observation/joint_state"))

    def test_the_last_step_can_be_left_out(self) -> None:
        dataset = open_dataset(RLDS, declared=Declaration(fps=5, state=("state",), last_step=False))
        kept = [step for episode in TRUTH["train"] for step in episode["steps"]["action"][:-1]]
        np.testing.assert_array_equal(dataset.arrays["action"], np.array(kept, np.float32))
        last = int(dataset.episodes[1].stop) - 1  # rows no longer are those of the file
        wanted = TRUTH["train"][1]["steps"]["observation/wrist_image"][-2]
        assert dataset.frames("wrist_image", [last]).tobytes() == base64.b64decode(wanted["pixels"])


class TestUnsaid:
    @pytest.mark.parametrize(
        ("root", "declared", "words"),
        [
            (RLDS, Declaration(state=()), r"does not say its frames per second.*rlds_tiny.volar.json"),
            (RLDS, Declaration(fps=5), r"gripper \[\], joint_state \[7\], state \[8\].*\"state\""),
            (RLDS, Declaration(fps=5, state=("stat",)), r"Did you mean 'state'"),
            (RLDS, Declaration(fps=5, state=("state", "state")), "occurs twice"),
            (RLDS, Declaration(fps=-5, state=()), "one positive number"),
            (RLDS, Declaration(fps=5, state=(), action=()), "has no actions"),
            (ROBOMIMIC, Declaration(instruction="lift"), r"object \[10\], robot0_eef_pos \[3\]"),
            (ROBOMIMIC, Declaration(state=()), "holds no instruction"),
            (ROBOMIMIC, Declaration(state=(), instruction="lift", fps=10), "declared 10.* by the data set 20.0"),
            (ROBOMIMIC, Declaration(state=(), instruction="lift", part="vald"), "Did you mean 'valid'"),
        ],
    )
    def test_is_refused_with_what_to_declare(self, root: Path, declared: Declaration, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            open_dataset(root, declared=declared)

    def test_may_be_written_beside_the_data_set(self, tmp_path: Path) -> None:
        root = copied(RLDS, tmp_path)
        said = tmp_path / "rlds_tiny.volar.json"
        said.write_text(json.dumps({"fps": 5, "state": ["state", "gripper"], "instruction": "öffne"}))
        dataset = open_dataset(root)
        assert dataset.tasks == ("öffne",) and dataset.features["observation.state"]["shape"] == [9]
        for damage, words in (
            ('{"fsp": 5}', "Did you mean 'fps'"), ('{"fps": "5"}', "fps"), ("{", "volar.json"),
            ('{"fps": true}', "fps"), ('{"state": "state"}', "list of names"), ('{"robot": {}}', "volar.json"),
            ("[]", "JSON object"),
        ):  # fmt: skip
            said.write_text(damage)
            with pytest.raises(ConfigError, match=words):
                open_dataset(root)

    def test_a_declared_robot_gives_the_rate_and_must_fit(self) -> None:
        action = ActionSpec(
            names=tuple("xyzabcg"), units=("m",) * 7, low=(-1.0,) * 7, high=(1.0,) * 7, control="delta_pose",
            rotation="euler_xyz", gripper="positive_closes", frame="base", rate_hz=5.0,
        )  # fmt: skip
        cameras = (Camera(name="image", height=16, width=16), Camera(name="wrist_image", height=12, width=16))
        robot = RobotSpec(action=action, cameras=cameras, proprioception=tuple(f"s{i}" for i in range(8)))
        dataset = open_dataset(RLDS, declared=Declaration(robot=robot, state=("state",)))
        assert (dataset.fps, dataset.spec) == (5.0, robot)
        assert Declaration.from_json({"robot": robot.to_json()}).robot == robot
        with pytest.raises(ConfigError, match="state dimensions"):
            open_dataset(RLDS, declared=Declaration(robot=robot, state=()))
        blind = RobotSpec(action=action, cameras=(), proprioception=())
        with pytest.raises(ConfigError, match="cameras"):
            open_dataset(RLDS, declared=Declaration(robot=blind, state=()))


def copied(root: Path, to: Path) -> Path:
    place = to / root.name
    if root.is_file():
        place.write_bytes(root.read_bytes())
        return place
    place.mkdir()
    for file in root.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    return place


def everything(dataset: Dataset) -> dict[str, np.ndarray]:
    rows = np.arange(dataset.num_frames)
    pictures = {camera.name: dataset.frames(camera.name, rows, keep=False) for camera in dataset.cameras}
    return {**dataset.arrays, **pictures}


@pytest.mark.parametrize(("root", "declared"), [(RLDS, RLDS_SAYS), (ROBOMIMIC, ROBOMIMIC_SAYS)])
class TestBoth:
    def test_lazy_and_in_a_worker_they_are_the_same(self, root: Path, declared: Declaration) -> None:
        dataset = open_dataset(root, declared=declared)
        lazy = pickle.loads(pickle.dumps(open_dataset(root, declared=declared, lazy=True)))
        rows = np.array([11, 0, 5, 3])
        for name in ("action", "observation.state", "task_index"):
            np.testing.assert_array_equal(lazy.rows(name, rows), dataset.arrays[name][rows])
        camera = dataset.cameras[0].name
        np.testing.assert_array_equal(lazy.frames(camera, rows), dataset.frames(camera, rows))
        assert lazy.content_hash() == dataset.content_hash()

    def test_they_are_learnt_from_like_any_other(self, root: Path, declared: Declaration) -> None:
        dataset = open_dataset(root, declared=declared)
        cameras = [camera.name for camera in dataset.cameras]
        windows = Windows(
            dataset, horizon=2, cameras=cameras, episodes=range(len(dataset.episodes)), images=True, features=None
        )
        batch = windows.__getitems__([0, 1, 11])
        assert batch.actions.shape == (3, 2, 7) and batch.instructions[0] in dataset.tasks
        np.testing.assert_array_equal(batch.images[cameras[1]][2], dataset.frames(cameras[1], [11])[0])

    def test_their_hash_depends_on_content_and_declaration(
        self, root: Path, declared: Declaration, tmp_path: Path
    ) -> None:
        here = open_dataset(root, declared=declared).content_hash()
        assert open_dataset(copied(root, tmp_path), declared=declared).content_hash() == here
        other = Declaration(fps=declared.fps, instruction="another", state=declared.state)
        assert open_dataset(root, declared=other).content_hash() != here


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def example(features: Mapping[str, list[Any]], *, packed: bool = True) -> bytes:
    """A tf.train.Example written by hand: bytes, floats and whole numbers by the type of the first value."""
    entries = b""
    for name, values in features.items():
        if isinstance(values[0], bytes):
            kind, content = 1, b"".join(message(1, value) for value in values)
        elif isinstance(values[0], float):
            pieces = [struct.pack("<f", value) for value in values]
            kind, content = 2, message(1, b"".join(pieces)) if packed else b"".join(b"\x0d" + piece for piece in pieces)
        else:
            pieces = [varint(int(value)) for value in values]
            kind, content = 3, message(1, b"".join(pieces)) if packed else b"".join(b"\x08" + piece for piece in pieces)
        entries += message(1, message(1, name.encode()) + message(2, message(kind, content)))
    return message(1, entries)


def masked(content: bytes) -> bytes:
    plain = google_crc32c.value(content)
    return struct.pack("<I", ((plain >> 15 | plain << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def write_rlds(root: Path, steps: Mapping[str, Any], episodes: list[bytes]) -> Path:
    """A data set of one shard. steps: name -> feature of features.json, or a mapping of such."""

    def described(tree: Mapping[str, Any]) -> dict[str, Any]:
        return {"featuresDict": {"features": {k: v if KINDS & v.keys() else described(v) for k, v in tree.items()}}}

    root.mkdir(exist_ok=True)
    features = {"featuresDict": {"features": {"steps": {"sequence": {"feature": described(steps)}}}}}
    (root / "features.json").write_text(json.dumps(features))
    split = {"name": "train", "shardLengths": [str(len(episodes))]}  # without a template, as older versions write
    (root / "dataset_info.json").write_text(json.dumps({"name": "made_up", "splits": [split]}))
    records = [struct.pack("<Q", len(content)) for content in episodes]
    content = b"".join(h + masked(h) + c + masked(c) for h, c in zip(records, episodes, strict=True))
    (root / "made_up-train.tfrecord-00000-of-00001").write_bytes(content)
    return root


KINDS = {"tensor", "text", "image", "sequence"}
TEXT: dict[str, Any] = {"text": {}}


def tensor(dtype: str, *shape: int) -> dict[str, Any]:
    return {"tensor": {"dtype": dtype, "shape": {"dimensions": [str(side) for side in shape]} if shape else {}}}


OXE = {
    "action": {
        "world_vector": tensor("float32", 3),
        "open_gripper": tensor("bool"),
        "terminate_episode": tensor("int32", 3),
    },
    "observation": {"natural_language_instruction": TEXT, "history": {"sequence": {"feature": tensor("float32", 2)}}},
}
OXE_VALUES: dict[str, list[Any]] = {
    "steps/action/world_vector": [0.5, 1.0, -2.0, 0.25, 3.0, 4.0],
    "steps/action/open_gripper": [1, 0],
    "steps/action/terminate_episode": [0, 0, -1, 2**31 - 1, 0, 0],
    "steps/observation/natural_language_instruction": [b"pick", b"place"],
    "steps/observation/history": [1.0],
}
OXE_SAYS = Declaration(fps=3, action=("world_vector", "open_gripper"))


class TestOpenX:
    """What other conversions do that the sample does not."""

    @pytest.mark.parametrize("packed", [True, False])
    def test_actions_of_several_parts_are_joined_as_declared(self, tmp_path: Path, packed: bool) -> None:
        root = write_rlds(tmp_path / "oxe", OXE, [example(OXE_VALUES, packed=packed)])
        dataset = open_dataset(root, declared=OXE_SAYS)
        np.testing.assert_array_equal(dataset.arrays["action"], [[0.5, 1, -2, 1], [0.25, 3, 4, 0]])
        assert dataset.features["action"]["names"] == [*(f"world_vector_{i}" for i in range(3)), "open_gripper"]
        ends = open_dataset(root, declared=Declaration(fps=3, action=("terminate_episode",)))
        np.testing.assert_array_equal(ends.arrays["action"], [[0, 0, -1], [2**31 - 1, 0, 0]])
        with pytest.raises(ConfigError, match="what the action is made of; it holds open_gripper"):
            open_dataset(root, declared=Declaration(fps=3))

    def test_an_instruction_may_change_within_an_episode(self, tmp_path: Path) -> None:
        dataset = open_dataset(write_rlds(tmp_path / "oxe", OXE, [example(OXE_VALUES)]), declared=OXE_SAYS)
        assert dataset.tasks == ("pick", "place") == dataset.episodes[0].tasks
        assert dataset.arrays["task_index"].tolist() == [0, 1]

    def test_pictures_of_any_size_take_that_of_the_first(self, tmp_path: Path) -> None:
        image = {"image": {"dtype": "uint8", "shape": {"dimensions": ["-1", "-1", "3"]}, "encodingFormat": "png"}}
        file = RLDS / "tiny_robot-train.tfrecord-00000-of-00002"
        content = index_records(file, file.name).read(file, 0)
        found = parse_example(content, {"steps/observation/wrist_image"})["steps/observation/wrist_image"]
        values = OXE_VALUES | {"steps/observation/front": [bytes(found[0]), bytes(found[1])]}
        observation = OXE["observation"] | {"front": image}
        root = write_rlds(tmp_path / "oxe", OXE | {"observation": observation}, [example(values)])
        dataset = open_dataset(root, declared=OXE_SAYS)
        np.testing.assert_array_equal(dataset.frames("front", [0, 1]), pixels("observation/wrist_image")[:2])
        for wrong in (b"GIF89a", b"", b"\x89PNG"):
            values["steps/observation/front"][1] = wrong
            write_rlds(root, OXE | {"observation": observation}, [example(values)])
            with pytest.raises(ConfigError, match=r"record 0.* picture .* (row|step) 1"):
                open_dataset(root, declared=OXE_SAYS).frames("front", [1])

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"steps/action/world_vector": [0.5, 1.0]}, "without steps"),
            ({"steps/action/world_vector": [0.5] * 7}, "world_vector.*2 steps of float32"),
            ({"steps/action/open_gripper": [1, 2]}, "bool cannot"),
            ({"steps/action/open_gripper": [1.0, 0.0]}, "another kind"),
            ({"steps/action/open_gripper": [b"x", b"y"]}, "another kind"),
            ({"steps/observation/natural_language_instruction": [b"pick", b"\xff"]}, "not UTF-8"),
            ({"steps/observation/natural_language_instruction": [b"pick"]}, "natural_language_instruction"),
            ({"steps/action/world_vector": [float("nan")] * 6}, "not finite"),
        ],
    )
    def test_records_that_contradict_their_description_are_refused(
        self, tmp_path: Path, change: dict[str, list[Any]], words: str
    ) -> None:
        root = write_rlds(tmp_path / "oxe", OXE, [example(OXE_VALUES), example(OXE_VALUES | change)])
        with pytest.raises(ConfigError, match=words):
            open_dataset(root, declared=OXE_SAYS)

    def test_a_record_is_one_whole_episode(self, tmp_path: Path) -> None:
        layout = OXE | {"is_first": tensor("bool"), "is_last": tensor("bool")}
        for first, last in (([0, 1], [0, 1]), ([1, 0], [1, 1]), ([1, 0], [0, 0])):
            values = OXE_VALUES | {"steps/is_first": first, "steps/is_last": last}
            root = write_rlds(tmp_path / "oxe", layout, [example(values)])
            with pytest.raises(ConfigError, match="one whole episode"):
                open_dataset(root, declared=OXE_SAYS)

    @pytest.mark.parametrize(
        ("info", "words"),
        [
            ({"fileFormat": "riegeli"}, "riegeli"),
            ({"name": "../secret"}, "outside the data set"),
            ({"name": "another"}, "another-train.tfrecord-00000-of-00001 is missing"),
            ({"splits": [{"name": "train", "shardLengths": ["2"]}]}, "holds 1 records, declared are 2"),
            ({"splits": [{"name": "train", "shardLengths": ["-1"]}]}, "negative"),
            ({"splits": [{"name": "train", "shardLengths": "x"}]}, "damaged"),
            ({"splits": 5}, "damaged"),
        ],
    )
    def test_a_damaged_description_is_named(self, tmp_path: Path, info: dict[str, Any], words: str) -> None:
        root = write_rlds(tmp_path / "oxe", OXE, [example(OXE_VALUES)])
        described = json.loads((root / "dataset_info.json").read_text())
        (root / "dataset_info.json").write_text(json.dumps(described | info))
        with pytest.raises(ConfigError, match=words):
            open_dataset(root, declared=OXE_SAYS)


def damaged(content: bytes, seed: int) -> bytes:
    """Cut short, one to three bits flipped, or two pieces swapped; never what it was."""
    generator = np.random.default_rng(seed)
    while True:
        out, kind = bytearray(content), seed % 3
        if kind == 0:
            del out[int(generator.integers(len(content))) :]
        elif kind == 1:
            for place in generator.integers(0, len(content), int(generator.integers(1, 4))):
                out[place] ^= 1 << int(generator.integers(8))
        else:
            size = int(generator.integers(1, 64))
            one, other = generator.integers(0, len(content) - size, 2).tolist()
            out[one : one + size], out[other : other + size] = out[other : other + size], out[one : one + size]
        if bytes(out) != content:
            return bytes(out)


def file_of(root: Path, **changes: Any) -> h5py.File:
    """The robomimic sample to change, with other attributes of `data`."""
    file = h5py.File(root, "r+")
    file["data"].attrs.update(changes)
    return file


class TestRobomimic:
    def test_numbers_and_pictures_are_those_that_were_written(self) -> None:
        """The sample's writer draws every demonstration from a generator seeded with its number."""
        dataset = open_dataset(ROBOMIMIC, declared=ROBOMIMIC_SAYS)
        assert [episode.source["demo"] for episode in dataset.episodes] == ["demo_0", "demo_1", "demo_2", "demo_10"]
        assert (dataset.format, dataset.fps, dataset.tasks) == ("robomimic", 20.0, ("lift the cube",))
        for episode in dataset.episodes:
            drawn = np.random.default_rng(int(episode.source["demo"].removeprefix("demo_")))
            rows, n = range(episode.start, episode.stop), episode.length
            for camera, shape in (("agentview_image", (n, 8, 10, 3)), ("robot0_eye_in_hand_image", (n, 8, 8, 3))):
                np.testing.assert_array_equal(dataset.frames(camera, rows), drawn.integers(0, 256, shape))
            position, _, gripper = (drawn.normal(size=(n, width)) for width in (3, 4, 2))
            drawn.normal(size=(n, 10))
            state = np.concatenate([position, gripper], axis=1)
            np.testing.assert_array_equal(dataset.arrays["observation.state"][rows], state)
            np.testing.assert_array_equal(dataset.arrays["action"][rows], drawn.uniform(-1, 1, size=(n, 7)))
            ends = np.arange(n) == n - 1
            np.testing.assert_array_equal(dataset.arrays["next.reward"][rows, 0], ends)
            np.testing.assert_array_equal(dataset.arrays["next.done"][rows, 0], ends)

    def test_a_filter_key_is_a_part(self) -> None:
        declared = Declaration(instruction="lift", state=(), part="train")
        found = [episode.source["demo"] for episode in open_dataset(ROBOMIMIC, declared=declared).episodes]
        assert found == ["demo_0", "demo_2", "demo_10"]

    def test_what_libero_and_robocasa_say_is_used(self, tmp_path: Path) -> None:
        root, says = copied(ROBOMIMIC, tmp_path), Declaration(state=())
        with file_of(root, problem_info=json.dumps({"language_instruction": "turn on the stove"})) as file:
            file["data"].attrs["macros_image_convention"] = "opengl"
            file["data/demo_1"].attrs["ep_meta"] = json.dumps({"lang": "close the drawer"})
            file["data/demo_2"].attrs["num_samples"] = str(file["data/demo_2"].attrs["num_samples"])  # as LIBERO does
        dataset, before = open_dataset(root, declared=says), open_dataset(ROBOMIMIC, declared=ROBOMIMIC_SAYS)
        assert dataset.tasks == ("turn on the stove", "close the drawer")
        assert dataset.episodes[1].tasks == ("close the drawer",)
        upright = dataset.frames("agentview_image", [4])[0]
        np.testing.assert_array_equal(upright, before.frames("agentview_image", [4])[0, ::-1])

    def test_a_rate_that_nobody_says_is_asked_for(self, tmp_path: Path) -> None:
        root = copied(ROBOMIMIC, tmp_path)
        for env in (json.dumps({"env_name": "Lift", "env_kwargs": {}}), json.dumps({"env_kwargs": None})):
            file_of(root, env_args=env).close()
            with pytest.raises(ConfigError, match="frames per second"):
                open_dataset(root, declared=ROBOMIMIC_SAYS)
        assert open_dataset(root, declared=Declaration(fps=20, state=(), instruction="lift")).fps == 20

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("soft link", "is a link"),
            ("external link", "is a link"),
            ("external storage", "other files"),
            ("virtual", "other files"),
            ("longer", "should be float64 .3, 2."),
            ("other dtype", "should be float64"),
            ("text", "holds no numbers"),
            ("absurd size", "of which 0 are in the file"),
            ("strange filter", "HDF5 filter"),
            ("no number", "demo_0, demo_1"),
            ("group", "holds no numbers"),
        ],
    )
    def test_what_cannot_be_trusted_is_refused(self, tmp_path: Path, change: str, words: str) -> None:
        root, key = copied(ROBOMIMIC, tmp_path), "data/demo_1/obs/robot0_gripper_qpos"
        (tmp_path / "raw").write_bytes(bytes(48))
        with file_of(root) as file:
            if change == "no number":
                file.move("data/demo_1", "data/first")
            else:
                del file[key]
            if change == "soft link":
                file[key] = h5py.SoftLink("/data/demo_0/obs/robot0_gripper_qpos")
            elif change == "external link":
                file[key] = h5py.ExternalLink(str(ROBOMIMIC), f"/{key}")
            elif change == "external storage":
                file.create_dataset(key, (3, 2), "f8", external=[(str(tmp_path / "raw"), 0, 48)])
            elif change == "virtual":
                virtual = h5py.VirtualLayout((3, 2), "f8")
                virtual[:] = h5py.VirtualSource(str(ROBOMIMIC), key, (3, 2))
                file.create_virtual_dataset(key, virtual)
            elif change == "longer":
                file[key] = np.zeros((4, 2))
            elif change == "other dtype":
                file[key] = np.zeros((3, 2), np.float32)
            elif change == "text":
                file[key] = [["a", "b"]] * 3
            elif change == "group":
                file.create_group(key)
            elif change == "strange filter":
                file.create_dataset(key, data=np.zeros((3, 2)), scaleoffset=4)
            elif change == "absurd size":  # of everything, and nothing of it is in the file
                file["data/demo_1"].attrs["num_samples"] = 2**40
                for name in ("actions", "rewards", "dones", "obs/robot0_eef_pos", "obs/robot0_gripper_qpos"):
                    like = file["data/demo_0"][name]
                    shape = (2**40, *like.shape[1:])
                    file["data/demo_1"].pop(name, None)
                    file["data/demo_1"].create_dataset(name, shape, like.dtype, chunks=(1024, *like.shape[1:]))
        with pytest.raises(ConfigError, match=words) as refusal:
            open_dataset(root, declared=ROBOMIMIC_SAYS)
        assert root.name in str(refusal.value)

    def test_it_names_the_package_that_it_needs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "volar.data.robomimic", raising=False)
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(ConfigError, match="pip install h5py"):
            open_dataset(ROBOMIMIC, declared=ROBOMIMIC_SAYS)


class TestDamage:
    def test_every_change_of_a_record_is_noticed(self, tmp_path: Path) -> None:
        root = copied(RLDS, tmp_path)
        files = sorted(root.glob("*-train.tfrecord*"))
        for seed in range(100):
            file = files[seed % 2]
            whole = file.read_bytes()
            file.write_bytes(damaged(whole, seed))
            with pytest.raises(ConfigError) as refusal:
                open_dataset(root, declared=RLDS_SAYS)
            assert file.name in str(refusal.value), seed
            file.write_bytes(whole)

    def test_a_change_after_opening_is_noticed_when_pictures_are_asked_for(self, tmp_path: Path) -> None:
        root = copied(RLDS, tmp_path)
        dataset = open_dataset(root, declared=RLDS_SAYS)
        file = sorted(root.glob("*-train.tfrecord*"))[0]
        file.write_bytes(file.read_bytes()[:9000])
        with pytest.raises(ConfigError, match=f"{file.name}.*checksum differs"):
            dataset.frames("image", [5])

    def test_a_damaged_description_never_gives_other_data(self, tmp_path: Path) -> None:
        root = copied(RLDS, tmp_path)
        truth = everything(open_dataset(root, declared=RLDS_SAYS))
        refused = 0
        for seed in range(100):
            file = root / ("features.json", "dataset_info.json")[seed % 2]
            whole = file.read_bytes()
            file.write_bytes(damaged(whole, seed))
            try:
                found = everything(open_dataset(root, declared=RLDS_SAYS))
            except ConfigError:
                refused += 1
            else:
                shared = truth.keys() & found.keys()
                assert all(np.array_equal(found[name], truth[name]) for name in shared), seed
            file.write_bytes(whole)
        assert refused > 50

    def test_damaged_hdf5_is_refused_or_read_never_anything_else(self, tmp_path: Path) -> None:
        """Plain HDF5 has no checksums: changed numbers and pixels pass, everything else must not."""
        root = copied(ROBOMIMIC, tmp_path)
        whole, refused = root.read_bytes(), 0
        for seed in range(100):
            root.write_bytes(damaged(whole, seed))
            try:
                everything(open_dataset(root, declared=ROBOMIMIC_SAYS))
            except ConfigError as error:
                refused += 1
                assert root.name in str(error)
        assert refused > 33  # every truncation at least
