"""Contracts: specs that refuse to be mixed, tables that help, checkpoints that survive."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from volar.core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from volar.core.errors import ConfigError, RobotFault
from volar.core.fingerprint import fingerprint
from volar.core.registry import Table, build_config
from volar.core.robot import ActionSpec, Camera, Observation, RobotSpec, require_match


@pytest.fixture
def action() -> ActionSpec:
    return ActionSpec(
        names=("x", "y", "gripper"), units=("m", "m", "normalised"), low=(-1.0, -1.0, -1.0), high=(1.0, 1.0, 1.0),
        control="delta_position", rotation="none", gripper="positive_closes", frame="world", rate_hz=20.0,
    )  # fmt: skip


@pytest.fixture
def robot(action) -> RobotSpec:
    cameras = (Camera(name="front", height=32, width=32), Camera(name="wrist", height=16, width=16))
    return RobotSpec(action=action, cameras=cameras, proprioception=("x", "y"))


def test_action_spec_has_no_defaults(action):
    with pytest.raises(TypeError, match="rotation"):
        ActionSpec(names=("x",), units=("m",), low=(-1.0,), high=(1.0,), control="delta_position",
                   gripper="none", frame="world", rate_hz=20.0)  # fmt: skip


@pytest.mark.parametrize(
    "change, message",
    [
        ({"units": ("m",)}, "equally long"),
        ({"rate_hz": 0.0}, "rate_hz"),
        ({"low": (-1.0, -1.0, 2.0)}, "below its high"),
    ],
)
def test_bad_action_specs_are_refused(action, change, message):
    with pytest.raises(ConfigError, match=message):
        replace(action, **change)


def test_wrong_choice_names_the_closest(action):
    """In a process of its own: inside the test session the shape checker would object first."""
    facts = {**action.__dict__, "rotation": "quat_xyzw"}
    code = f"from volar.core.robot import ActionSpec; ActionSpec(**{facts!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ConfigError" in done.stderr and "Did you mean 'quaternion_xyzw'" in done.stderr


def test_clip_saturates_but_never_passes_what_is_not_finite(action):
    assert action.clip(np.array([2.0, -3.0, 0.5])).tolist() == [1.0, -1.0, 0.5]
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(RobotFault, match="gripper"):
            action.clip(np.array([0, 0, bad]))
    with pytest.raises(RobotFault, match="2 numbers"):
        action.clip(np.zeros(2))


def test_robot_spec_survives_json(robot):
    assert RobotSpec.from_json(json.loads(json.dumps(robot.to_json()))) == robot


def test_mismatch_lists_every_difference(robot):
    other = replace(
        robot,
        cameras=robot.cameras[:1],
        proprioception=("y", "x"),
        action=replace(robot.action, gripper="positive_opens", rate_hz=10.0),
    )
    with pytest.raises(ConfigError) as caught:
        require_match(robot, other, our_name="The policy", their_name="the data set")
    for word in ("wrist", "proprioception", "gripper", "rate_hz", "The policy does not fit the data set"):
        assert word in str(caught.value)
    swapped = replace(robot, cameras=robot.cameras[::-1])
    require_match(robot, swapped, our_name="a", their_name="b")


def test_digest_sees_everything(robot):
    def look(**changes):
        facts = {"images": {"front": np.zeros((4, 4, 3), np.uint8)}, "proprioception": np.zeros(2, np.float32)}
        return Observation(**{**facts, "instruction": "go", "time": 0.0, **changes}).digest()

    brighter = np.zeros((4, 4, 3), np.uint8)
    brighter[0, 0, 0] = 1
    renamed = {"wrist": np.zeros((4, 4, 3), np.uint8)}
    digests = {look(), look(instruction="stay"), look(images={"front": brighter}), look(images=renamed)}
    digests.add(look(proprioception=np.ones(2, np.float32)))
    assert len(digests) == 5 and look() == look(time=3.0)


class Part:
    @dataclass(frozen=True, kw_only=True)
    class Config:
        size: int = 3
        rate: float = 0.1
        sides: tuple = (1, 2)


def test_config_from_json_is_strict():
    assert build_config(Part, {"size": 4, "rate": 1, "sides": [3]}) == Part.Config(size=4, rate=1, sides=(3,))
    with pytest.raises(ConfigError, match="Did you mean 'size'"):
        build_config(Part, {"sise": 4})
    with pytest.raises(ConfigError, match="size must be a int"):
        build_config(Part, {"size": "4"})


def test_table_helps():
    table = Table("thing", {"flow": "json:dumps", "gone": "json:no_such_thing"})
    assert table.load("flow") is json.dumps
    assert table.load("json:loads") is json.loads
    with pytest.raises(ConfigError, match=r"No thing named 'flw'\. Did you mean 'flow'"):
        table.load("flw")
    with pytest.raises(ConfigError, match="no_such_thing"):
        table.load("gone")
    with pytest.raises(ConfigError, match="no_such_module"):
        table.load("no_such_module:Thing")


@pytest.fixture
def checkpoint() -> Checkpoint:
    return Checkpoint(
        config={"kind": "thing"}, statistics={"action": {"mean": [0.1 + 0.2, 1 / 3]}},
        tensors={"weight": torch.randn(3, 4)}, assets={"tokenizer.json": b"{}"},
    )  # fmt: skip


def test_checkpoint_round_trip_is_exact(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "a", checkpoint)
    loaded = load_checkpoint(tmp_path / "a")
    assert torch.equal(loaded.tensors["weight"], checkpoint.tensors["weight"])
    assert loaded.statistics == checkpoint.statistics and loaded.assets == checkpoint.assets
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


@pytest.mark.parametrize("name", ["config.json", "stats.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged_checkpoint_names_the_file(tmp_path, checkpoint, name, damage):
    save_checkpoint(tmp_path / "a", checkpoint)
    path = tmp_path / "a" / name
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 255
        path.write_bytes(data)
    with pytest.raises(ConfigError, match=name):
        load_checkpoint(tmp_path / "a")


def test_checkpoint_is_never_overwritten(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "a", checkpoint)
    with pytest.raises(ConfigError, match="never overwritten"):
        save_checkpoint(tmp_path / "a", checkpoint)


def test_failed_write_leaves_nothing(tmp_path, checkpoint, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("volar.core.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path / "a", checkpoint)
    assert list(tmp_path.iterdir()) == []


def test_fingerprint_names_what_matters():
    facts = fingerprint(seeds=[1, 2])
    assert facts["versions"]["torch"] == torch.__version__ and facts["seeds"] == [1, 2] and "commit" in facts
